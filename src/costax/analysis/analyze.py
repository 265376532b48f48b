"""`costax.analyze`, which counts a program, and `costax.rules`, the rules that it counts with."""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from typing import Any, Final, Literal, TypeGuard, overload

import jax

from costax import _jax
from costax._jax.spec import with_specs
from costax.analysis.analysis import Analysis
from costax.analysis.compiled_module import CompiledModule, of_module_at
from costax.analysis.ready import Ready
from costax.analysis.symbolic import analyze_symbols, symbolic_arguments
from costax.core.cost import Cost, Count
from costax.core.listing import Entries, shown
from costax.core.polynomial import Polynomial, at_least, rational
from costax.core.polynomial.symbol_values import Condition
from costax.errors import InputError, MissingRuleError, TripsError
from costax.hlo.module_analysis import ModuleAnalysis
from costax.program import parameters
from costax.program.branches import Branches, check_used, checked_branches, nearest
from costax.program.trace import Program, trace
from costax.program.tree import Node
from costax.program.tree import choices as branch_choices
from costax.program.walk import Findings, walk
from costax.rules import higher_order, leaf
from costax.rules.registry import REGISTRY, Rule, cost_rule

# The largest signed integer of 64 bits.
_MOST_TRIPS: Final = (1 << 63) - 1

# Importing these packages registers their rules.
_REGISTERED = (leaf, higher_order)


class UncountedWarning(UserWarning):
    """A program contains primitives without a rule. They are listed in `Analysis.uncounted`."""


@overload
def analyze(  # pyright: ignore[reportOverlappingOverload] # a path is no program, though Any takes both
    fn: str | os.PathLike[str], *, trips: Mapping[str, Count] | None = None
) -> Callable[[], CompiledModule]: ...
@overload
def analyze(
    fn: Any,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    params_argnums: int | Sequence[int] | None = None,
    trips: Mapping[str, Count] | None = None,
    branches: Branches = "max",
    on_missing: Literal["raise", "warn"] = "raise",
    rules: Mapping[str, Callable[..., Cost]] | None = None,
    loops_once: bool = False,
) -> Callable[..., Analysis]: ...
@overload
def analyze(
    fn: Any,
    argument: Any,
    /,
    *args: Any,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    params_argnums: int | Sequence[int] | None = None,
    trips: Mapping[str, Count] | None = None,
    branches: Branches = "max",
    on_missing: Literal["raise", "warn"] = "raise",
    rules: Mapping[str, Callable[..., Cost]] | None = None,
    loops_once: bool = False,
) -> Analysis: ...
def analyze(
    fn: Any,
    *args: Any,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    params_argnums: int | Sequence[int] | None = None,
    trips: Mapping[str, Count] | None = None,
    branches: Branches = "max",
    on_missing: Literal["raise", "warn"] = "raise",
    rules: Mapping[str, Callable[..., Cost]] | None = None,
    loops_once: bool = False,
) -> Any:
    """Return a function that takes the arguments of `fn` and returns its Analysis. Nothing is executed.

    Arguments of the function: arrays, a `jax.ShapeDtypeStruct` for each, or texts such as "f32[8,128]", in any pytree.
    If sizes are symbols, as in "i32[b,s]", the counts are polynomials in the symbols.

    Args:
        fn: A callable, jitted or not, a `jax.stages.Traced`, a `jax.export.Exported`, a closed jaxpr, or a module
            of flax, equinox or haiku. For the path of an HLO file, a `jax.stages.Lowered` or a
            `jax.stages.Compiled`, the function takes no arguments and returns a CompiledModule with XLA's counts;
            `trips` is the only option then.
        args: Arguments of `fn`, for an Analysis at once: `costax.analyze(fn, "f32[8,128]")`.
        static_argnums, static_argnames: As for `jax.jit`.
        params_argnums: The positional arguments that are parameters.
        trips: Trip counts of loops whose length the program does not fix, by scope path: `{"solver/while": 40}`.
            Patterns are allowed. A loop without a trip count gets a symbol named after its path; with `loops_once`
            it counts once, as in XLA.
        branches: The branch of a `cond` or `switch` that counts: the costliest ("max"), the cheapest ("min"), the
            mean of all ("mean"), or one of these or an index by scope path: `{"router/cond": 1, "*": "mean"}`.
        on_missing: "raise" MissingRuleError for primitives without a rule, or "warn" and list them as uncounted.
            Callbacks and foreign functions are always listed as uncounted, and with "warn" warned of: only their
            authors know their work.
        rules: Cost rules for this call only, by primitive name.
        loops_once: Whether a loop without a trip count counts once.

    Raises TargetError if `fn` is not a program, InputError if the arguments do not fit, MissingRuleError, TripsError or
    BranchError if `trips` or `branches` do not fit the program, SymbolicError if no formula exists.

    >>> import jax.numpy as jnp
    >>> analyze(jnp.matmul)("f32[4,8]", "f32[8,3]").macs
    96
    """
    if on_missing not in ("raise", "warn"):
        raise InputError(
            f"on_missing must be 'raise' or 'warn', got {on_missing!r}.",
            why="on_missing decides whether a primitive without a rule is an error or a warning.",
            cure='Pass on_missing="raise" or on_missing="warn".',
        )
    answers = checked_trips(trips or {})
    if is_module(fn):
        given = {
            "static_argnums": static_argnums != (),
            "static_argnames": static_argnames != (),
            "params_argnums": params_argnums is not None,
            "branches": branches != "max",
            "on_missing": on_missing != "raise",
            "rules": bool(rules),
            "loops_once": loops_once,
        }
        analysis = of_file(partial(of_module_at, fn, answers), given)
        return analysis(*args) if args else analysis
    counted = partial(
        analyze_traced,
        branches=checked_branches(branches),
        on_missing=on_missing,
        rules=rules,
        loops_once=loops_once,
    )

    def analysed(
        fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], loops: Mapping[str, Count] | None = None
    ) -> Analysis:
        program = trace(
            fn,
            args,
            kwargs,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            params_argnums=params_argnums,
        )
        return counted(program, trips={**answers, **(loops or {})})

    def call(*args: Any, **kwargs: Any) -> Analysis:
        args, kwargs = with_specs(args, kwargs, static_argnums, static_argnames)
        symbolic = symbolic_arguments(fn, args, kwargs)
        analysis = analysed(fn, args, kwargs) if symbolic is None else analyze_symbols(symbolic, analysed)
        if not analysis.symbols:
            return analysis

        def retrace(values: Mapping[str, Count]) -> Analysis:
            sizes = symbolic.least if symbolic else ()
            loops = {name: count for name, count in values.items() if name not in sizes}
            if symbolic is None:
                return counted(analysis.program, trips={**answers, **loops})
            return analysed(*symbolic.at({name: int(values[name]) for name in sizes}), loops)

        return replace(analysis, retrace=retrace)

    return call(*args) if args else Ready("analyze", fn, call)


def analyze_traced(
    program: Program,
    *,
    trips: Mapping[str, Any] | None = None,
    branches: Branches = "max",
    on_missing: Literal["raise", "warn"] = "raise",
    rules: Mapping[str, Callable[..., Cost]] | None = None,
    loops_once: bool = False,
) -> Analysis:
    """Return the analysis of a traced program; the options are those of `analyze`."""
    answers, choices = checked_trips(trips or {}), checked_branches(branches)
    return analyze_program(program, answers, on_missing, rules or {}, branches=choices, loops_once=loops_once)


def analyze_program(
    program: Program,
    trips: Mapping[str, Count],
    on_missing: Literal["raise", "warn"] = "raise",
    overrides: Mapping[str, Callable[..., Cost]] | None = None,
    *,
    branches: Mapping[str, int | str] | None = None,
    loops_once: bool = False,
) -> Analysis:
    """Return the analysis of a traced program. Its loops of unknown length count once, or as often as a symbol."""
    table = _with_overrides(overrides or {})
    jaxpr = _jax.without_dead_code(program.jaxpr)
    choices = branches or {}
    devices = _jax.device_count(program.traced, program.jaxpr)
    tree, findings = walk(jaxpr, table, trips, branches=choices, loops_once=loops_once, own_package=program.own_package)
    _check_findings(findings, trips, on_missing)
    check_used(findings.choices, findings.used_branches, choices)
    return Analysis(
        name=program.name,
        total=tree.total,
        inputs=shown(program.inputs),
        unknowns=tuple(findings.unknowns.values()),
        uncounted=(*findings.missing.values(), *findings.foreign.values()),
        choices=branch_choices(tree, program.source_of),
        parameters=shown(parameters.by_scope(program, jaxpr, tree)),
        per_device=tree.total.divided(max(devices, findings.devices)),
        devices=max(devices, findings.devices),
        even_share=devices > 1 and not _is_of_shards(tree, devices),
        versions={"jax": jax.__version__, "costax": _version()},
        tree=tree,
        program=program,
        live=jaxpr,
        source_of=program.source_of,
        dead_part=lambda: (
            walk(program.jaxpr, table, trips, branches=choices, loops_once=loops_once)[0].total - tree.total
        ),
        conditions=(
            *program.conditions,
            *(_positive(extent) for extent in findings.extents.values() if not at_least(extent, 1)),
            *(Condition(text, difference) for text, difference in findings.presumed.items()),
        ),
        exact_by="tracing",
        extents=tuple(findings.extents.values()),
    )


def rules() -> dict[str, Rule]:
    """Return every rule by primitive name."""
    return Entries(REGISTRY.snapshot())


def is_module(fn: Any) -> bool:
    """Return whether a target is a module: the path of a file, or a stage of jax that has no jaxpr."""
    return is_path(fn) or _jax.is_lowered(fn) or _jax.is_compiled(fn)


def is_path(fn: Any) -> TypeGuard[str | os.PathLike[str]]:
    """Return whether a target is the path of a file."""
    # A string without a suffix, such as `package.module:name`, is a target of the command line and not a path.
    return isinstance(fn, os.PathLike) or (isinstance(fn, str) and (os.path.splitext(fn)[1] != "" or os.path.isdir(fn)))


def of_file(analysis: Callable[[], ModuleAnalysis], given: Mapping[str, bool]) -> Callable[..., ModuleAnalysis]:
    """Return a function without arguments for a file. Raises InputError for an option that was given: it does nothing.

    given: whether each option, other than `trips`, has another value than by default.
    """
    superfluous = [name for name, changed in given.items() if changed]
    if superfluous:
        raise InputError(
            f"{superfluous[0]} does not apply to an HLO file.",
            why="Its program is lowered already: shapes, branches, rules and the target of the compiler are fixed.",
            cure=f"Leave out {superfluous[0]}, or pass the program itself.",
        )

    def call(*args: Any, **kwargs: Any) -> ModuleAnalysis:
        if args or kwargs:
            raise InputError(
                f"An HLO file already has its arguments, and got {len(args) + len(kwargs)} more.",
                why="The shapes of its arguments are fixed.",
                cure="Call without arguments: costax.analyze(path)().",
            )
        return analysis()

    return call


def _with_overrides(overrides: Mapping[str, Callable[..., Cost]]) -> Mapping[str, Rule]:
    if not overrides:
        return REGISTRY.snapshot()
    with REGISTRY.restored():
        for name, function in overrides.items():
            cost_rule(name, override=True)(function)
        return REGISTRY.snapshot()


def _check_findings(findings: Findings, trips: Mapping[str, Count], on_missing: str) -> None:
    missing = tuple(findings.missing.values())
    if missing and on_missing == "raise":
        raise MissingRuleError(missing)
    missing = (*missing, *findings.foreign.values())
    if missing and on_missing == "warn":
        names = ", ".join(f"{m.count} x {m.primitive} ({m.where})" for m in missing)
        warnings.warn(f"Not counted: {names}", UncountedWarning, stacklevel=4)
    unused = [place for place in trips if place not in findings.used_trips]
    if unused:
        error = TripsError(
            f"No loop of unknown length matches {', '.join(map(repr, unused))}.",
            where=f"loops of unknown length: {', '.join(findings.unknowns) or 'none'}",
            why="A trip count without its loop has no effect.",
            cure=nearest(unused[0], findings.unknowns) or "Use a loop of that list, or a pattern such as '*/while'.",
        )
        error.unmatched, error.loops = tuple(unused), tuple(findings.unknowns)
        raise error


def checked_trips(trips: Mapping[str, Any]) -> dict[str, Any]:
    """Return trip counts as integers, fractions or polynomials. Raises TripsError for a value that is not a count."""
    for place, count in trips.items():
        if isinstance(count, int | Fraction) and count > _MOST_TRIPS:
            raise TripsError(
                f"trips[{place!r}] is larger than {_MOST_TRIPS:,}.",
                why="No counter of a loop in XLA reaches such a number.",
                cure="Pass the number of iterations of one run of the loop.",
            )
        if not isinstance(count, int | Fraction | Polynomial) or isinstance(count, bool) or not at_least(count, 0):
            raise TripsError(
                f"trips[{place!r}] must be a non-negative number, got {count!r}.",
                why="A loop runs a whole number of times.",
                cure="Pass a non-negative integer, or the mean that costax.count_trips measured.",
            )
    return {place: count if isinstance(count, Polynomial) else rational(count) for place, count in trips.items()}


def _positive(extent: Count) -> Condition:
    return Condition(f"{extent} >= 1, because the program has a size of {extent}:", extent - 1)


def _is_of_shards(tree: Node, devices: int) -> bool:
    """Say whether all work stands in a `shard_map` over all devices, which says what each of them does."""
    return not tree.where(lambda node: 0 if node.per_device and node.times == devices else node.times)


# To read the metadata of a package takes milliseconds, as long as the analysis of a small program.
@cache
def _version() -> str:
    return importlib.metadata.version("costax")
