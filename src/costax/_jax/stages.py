"""jax's stages: jitted, traced, lowered, compiled."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
from jax import export as _export
from jax._src import config as _config
from jax.extend import core as _extend_core

from costax._jax.argument_paths import donated_leaves
from costax._jax.jaxprs import opened

# Untyped, because jax's annotations are incomplete.
_api: Any = jax

_JITTED: type[Any] = cast("Any", type(_api.jit(lambda: None)))


def is_jitted(fn: object) -> bool:
    """Say whether a function is a result of `jax.jit`."""
    return isinstance(fn, _JITTED)


def is_tracer(value: object) -> bool:
    """Say whether a value stands for an array of a function that jax traces."""
    return isinstance(value, _api.core.Tracer)


def jitted(fn: Callable[..., Any], static: Mapping[str, Any]) -> Any:
    """Return `jax.jit(fn)`; a jitted function keeps its own static and donated arguments."""
    return fn if isinstance(fn, _JITTED) and not static else _api.jit(fn, **static)


def static_arguments(fn: Any, count: int) -> tuple[set[int], set[str]]:
    """Return the static arguments of a jitted function: positions among `count` arguments, and keyword names."""
    info = fn._jit_info
    return {n % count for n in info.static_argnums if count and -count <= n < count}, set(info.static_argnames)


def lower(traced: Any, jaxpr: Any, platform: str = "cpu") -> Any:
    """Lower a closed jaxpr for a platform.

    traced: a `Traced` with the same inputs, from which the argument names, shardings and donation are taken; None for a
    lowering without them.
    """
    if traced is None:
        avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in opened(jaxpr).invars]
        traced = _api.jit(_extend_core.jaxpr_as_fun(jaxpr)).trace(*avals)
    else:
        traced = copy.copy(traced)
        traced._params = {**traced._params, "jaxpr": jaxpr}
        traced._lojax = None
    # Without tracebacks, which a flag of jax leaves out, operations lose the names of their equations.
    named = _config.include_full_tracebacks_in_locations(True)
    with jax.default_device(_api.devices("cpu")[0]), named:
        return traced.lower(lowering_platforms=(platform,))


def memory(compiled: Any) -> Mapping[str, int]:
    """Return XLA's memory analysis of a compiled program, in bytes; empty for a lowered program or without one."""
    return memory_sizes(compiled.memory_analysis() if is_compiled(compiled) else None)


def buffer_assignment(stage: Any) -> bytes:
    """Return the serialised BufferAssignmentProto of a compiled program; b"" where there is none."""
    stats = stage.memory_analysis() if is_compiled(stage) else None
    return getattr(stats, "serialized_buffer_assignment_proto", None) or b""


def platform_of(stage: Any) -> str:
    """Return "cpu", "gpu" or "tpu", for which a program is compiled; "" for a lowered one, or if jax does not say."""
    executable: Any = stage.runtime_executable() if is_compiled(stage) else None
    # What is compiled ahead of time is not loaded on a device.
    devices: list[Any] = executable.local_devices() if hasattr(executable, "local_devices") else []
    platform = str(devices[0].platform) if devices else ""
    return {"cuda": "gpu", "rocm": "gpu"}.get(platform, platform if platform in ("cpu", "gpu", "tpu") else "")


def memory_sizes(stats: Any) -> Mapping[str, int]:
    """Return the sizes that XLA's memory statistics contain, in bytes; empty for None."""
    names = ("argument", "output", "alias", "temp", "generated_code")
    sizes = {name: getattr(stats, f"{name}_size_in_bytes", None) for name in names}
    peak = getattr(stats, "peak_memory_in_bytes", None)
    return {name: size for name, size in {**sizes, "peak": peak}.items() if size is not None}


def traced(fn: Callable[..., Any], avals: Sequence[Any]) -> Any:
    """Trace a function for abstract values; return the `Traced`."""
    return _api.jit(fn).trace(*(jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals))


def is_traced(value: object) -> bool:
    """Say whether a value is a `jax.stages.Traced`."""
    return isinstance(value, jax.stages.Traced)


def is_exported(value: object) -> bool:
    """Say whether a value is a `jax.export.Exported`."""
    return isinstance(value, _export.Exported)


def exported_arguments(exported: Any) -> tuple[Any, Any] | None:
    """Return the (args, kwargs) of an exported function as shapes and dtypes; None if a size of them is symbolic."""
    if not all(isinstance(extent, int) for aval in exported.in_avals for extent in aval.shape):
        return None
    leaves = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in exported.in_avals]
    return _api.tree.unflatten(exported.in_tree, leaves)


def is_lowered(value: object) -> bool:
    """Say whether a value is a `jax.stages.Lowered`."""
    return isinstance(value, jax.stages.Lowered)


def is_compiled(value: object) -> bool:
    """Say whether a value is a `jax.stages.Compiled`."""
    return isinstance(value, jax.stages.Compiled)


def donated(traced: Any) -> tuple[bool, ...]:
    """Return whether each argument of a traced function is donated, in the order of the leaves; () for None."""
    return () if traced is None else tuple(donated_leaves(traced))


def needs_values(error: BaseException) -> bool:
    """Say whether an exception of jax means that Python needed the value of a traced array, as `if x > 0` does."""
    errors = _api.errors
    return isinstance(error, (errors.ConcretizationTypeError, errors.TracerArrayConversionError))
