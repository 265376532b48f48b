"""`costax.compare`: count a program, and explain every difference from XLA's counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, overload

from costax.analysis.analyze import analyze, checked_trips, is_module, of_file
from costax.analysis.compiled_module import CompiledModule, of_module_at
from costax.analysis.ready import Ready
from costax.compare.ahead_of_time import TIMEOUT, machine
from costax.compare.comparison import Comparison, compare_program
from costax.compare.dumping import Flags
from costax.core.cost import Cost, Count
from costax.hlo.module_analysis import with_xla


@overload
def compare(  # pyright: ignore[reportOverlappingOverload] # a path is no program, though Any takes both
    fn: str | os.PathLike[str], *, trips: Mapping[str, Count] | None = None
) -> Callable[[], CompiledModule]: ...
@overload
def compare(
    fn: Any,
    *,
    target: str = "cpu",
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    params_argnums: int | Sequence[int] | None = None,
    trips: Mapping[str, Count] | None = None,
    on_missing: Literal["raise", "warn"] = "raise",
    rules: Mapping[str, Callable[..., Cost]] | None = None,
    timeout: float = TIMEOUT,
    passes: bool = True,
    xla_flags: Flags | None = None,
) -> Callable[..., Comparison]: ...
@overload
def compare(
    fn: Any,
    argument: Any,
    /,
    *args: Any,
    target: str = "cpu",
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    params_argnums: int | Sequence[int] | None = None,
    trips: Mapping[str, Count] | None = None,
    on_missing: Literal["raise", "warn"] = "raise",
    rules: Mapping[str, Callable[..., Cost]] | None = None,
    timeout: float = TIMEOUT,
    passes: bool = True,
    xla_flags: Flags | None = None,
) -> Comparison: ...
def compare(
    fn: Any,
    *args: Any,
    target: str = "cpu",
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    params_argnums: int | Sequence[int] | None = None,
    trips: Mapping[str, Count] | None = None,
    on_missing: Literal["raise", "warn"] = "raise",
    rules: Mapping[str, Callable[..., Cost]] | None = None,
    timeout: float = TIMEOUT,
    passes: bool = True,
    xla_flags: Flags | None = None,
) -> Any:
    """Return a function that takes the arguments of `fn` and returns a Comparison with XLA's own counts.

    The program is lowered and compiled, and not run.

    Args:
        fn: A program, as for `analyze`; or the path of a file with HLO, a `jax.stages.Lowered` or a
            `jax.stages.Compiled`, for which the function returns a CompiledModule together with XLA's own
            dictionary, and `trips` is the only option.
        args: Arguments of `fn`, if it has any, for an answer at once.
        target: "cpu" for the CPU of this machine, or a device to compile for ahead of time, which need not be
            present: "tpu:v5e" (needs costax[tpu]), "tpu:v5e:2x4", "cuda:h100" (needs costax[cuda]), "cuda:h100:8".
        static_argnums: As for `jax.jit`.
        static_argnames: As for `jax.jit`.
        params_argnums: The positional arguments that are parameters.
        trips: Trip counts of loops, as for `analyze`.
        on_missing: "raise" or "warn", as for `analyze`.
        rules: Cost rules for this call only, as for `analyze`.
        timeout: Seconds that the compiler may take.
        passes: Read what each pass of the compiler did, which takes about as long again as the compilation; with
            False the comparison has the net change of each equation between the lowered and the compiled module,
            without causes.
        xla_flags: Options of XLA by name, such as `{"xla_cpu_enable_fast_math": True}`.

    Raises TargetError if XLA does not compile the program or the compiler of the target is not installed, and
    DeviceMemoryError if the compiler reports that the program does not fit the memory of the target.
    """
    if is_module(fn):
        given = {
            "target": target != "cpu",
            "static_argnums": static_argnums != (),
            "static_argnames": static_argnames != (),
            "params_argnums": params_argnums is not None,
            "on_missing": on_missing != "raise",
            "rules": bool(rules),
            "timeout": timeout != TIMEOUT,
            "passes": not passes,
            "xla_flags": bool(xla_flags),
        }
        compared = of_file(partial(_compared_module, fn, checked_trips(trips or {})), given)
        return compared(*args) if args else compared
    compiled_for = machine(target)
    analysed = analyze(
        fn,
        static_argnums=static_argnums,
        static_argnames=static_argnames,
        params_argnums=params_argnums,
        trips=trips,
        on_missing=on_missing,
        rules=rules,
        # XLA counts the body of a loop once.
        loops_once=True,
    )

    def call(*args: Any, **kwargs: Any) -> Comparison:
        analysis = analysed(*args, **kwargs)
        return compare_program(analysis.program, analysis, compiled_for, timeout, passes=passes, xla_flags=xla_flags)

    return call(*args) if args else Ready("compare", fn, call)


def _compared_module(fn: Any, trips: Mapping[str, Count]) -> CompiledModule:
    return with_xla(of_module_at(fn, trips), os.fspath(fn) if isinstance(fn, str | os.PathLike) else type(fn).__name__)
