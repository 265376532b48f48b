"""Jaxprs: how to read them, how to change them, and parameters under the same names in all versions of jax.

Since jax 0.12, `Jaxpr` and `ClosedJaxpr` are one class. Before, a closed jaxpr has an open one and its constants.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, cast

import jax
import numpy as np
from jax._src import core as _core
from jax._src import source_info_util as _sources
from jax._src.interpreters import mlir as _mlir
from jax._src.interpreters import partial_eval as _partial_eval
from jax._src.state import types as _states
from jax.extend import core as _extend_core

from costax._jax import mosaic_gpu
from costax._jax.symbolic_dims import count, is_symbolic
from costax.core import dtypes
from costax.core.equation import Operand
from costax.errors import Uncountable

# Untyped, because jax's annotations are incomplete.
_api: Any = jax
_SEQUENCES: Any = (tuple, list)
_RESERVED = re.compile("[~;]")

Jaxpr = Any
"""An open jaxpr: an object with `eqns`, `invars`, `constvars` and `outvars`."""

Var = Any

Eqn = Any


def is_jaxpr(value: object) -> bool:
    """Say whether a value is a jaxpr, open or closed."""
    return isinstance(value, (_core.Jaxpr, _extend_core.ClosedJaxpr))


def opened(jaxpr: Any) -> Jaxpr:
    """Return the open jaxpr of an open or closed one."""
    return jaxpr if isinstance(jaxpr, _core.Jaxpr) else jaxpr.jaxpr


def constants(jaxpr: Any) -> Sequence[Any]:
    """Return the values of the constant variables; () for an open jaxpr, which does not have them."""
    return () if not isinstance(jaxpr, _extend_core.ClosedJaxpr) else jaxpr.consts


def is_literal(atom: Any) -> bool:
    """Say whether an atom is a literal and not a variable."""
    return isinstance(atom, _extend_core.Literal)


def is_reference(aval: Any) -> bool:
    """Say whether an abstract value is a reference to an array."""
    return hasattr(aval, "inner_aval")


def literal(value: int, aval: Operand) -> Any:
    """Return a jaxpr's literal."""
    return _extend_core.Literal(value, aval)


def without_dead_code(jaxpr: Any) -> Any:
    """Return a jaxpr after the dead-code elimination of `jit`, which keeps equations with effects and all inputs."""
    outer = opened(jaxpr)
    live, _ = _partial_eval.dce_jaxpr(outer, [True] * len(outer.outvars), instantiate=True)
    return live if isinstance(jaxpr, _core.Jaxpr) else _extend_core.ClosedJaxpr(live, jaxpr.consts)


def operand(aval: Any) -> Operand:
    """Return the shape and dtype of an abstract value: of the array that a reference points to, empty for a token."""
    inner = getattr(aval, "inner_aval", aval)
    shape = getattr(inner, "shape", None)
    dtype = getattr(inner, "dtype", None)
    if shape is None or dtype is None:
        return Operand((0,), "token")
    extents = tuple(shape)
    if any(type(extent) is not int for extent in extents):
        extents = tuple(map(count, extents))
    return Operand(extents, dtypes.short_name(_dtype_name(dtype)))


@cache
def _dtype_name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def generator(name: str) -> Any:
    """Return jax's implementation of a PRNG such as `philox4x32`, or None if this version of jax does not have it."""
    try:
        return _api.eval_shape(lambda: jax.random.key(0, impl=name)).dtype._impl
    except ValueError:
        return None


def literal_text(atom: Any) -> str:
    """Return the value of a literal as Python prints it: `1.0`, `-3`, `True`."""
    return scalar_text(atom.val) or str(atom.val)


def is_concrete(value: Any, largest: int) -> bool:
    """Say whether a value is a Python number, or an array of numbers with at most `largest` elements."""
    numeric = isinstance(getattr(value, "dtype", None), np.dtype) and not isinstance(value, _core.Tracer)
    return isinstance(value, bool | int | float | complex) or (numeric and value.size <= largest)


def scalar_text(value: Any) -> str | None:
    """Return a concrete scalar as Python prints it; None for any other value."""
    # jax has subclasses of Python's numbers that print differently.
    for kind in (bool, int, float, complex):
        if isinstance(value, kind):
            return str(kind(cast("Any", value)))
    # A PRNG key has an extended dtype, which numpy does not know.
    shape: Any = getattr(value, "shape", None)
    return str(np.asarray(value).item()) if shape == () and is_concrete(value, 1) else None


def integer_value(value: Any) -> int | None:
    """Return the value of a concrete integer or boolean scalar, else None."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, _core.Tracer) or getattr(value, "shape", None) != ():
        return None
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return int(value) if kind in "iub" and kind else None


def params(eqn: Eqn) -> Mapping[str, Any]:
    """Return the parameters of an equation under their names in jax 0.10, for all versions of jax.

    `scan` has `num_consts` and `num_carry` (jax 0.12 has trees instead), `shard_map` has `manual_axes`. `dma_start` has
    the added parameters `copied` and `remote`; the copies and products of Mosaic GPU kernels have `parts`, the parts of
    their references. Integers are Python's, because products of numpy's would overflow silently. Symbolic dimensions
    are polynomials.
    """
    by_name = {name: _plain(value) for name, value in eqn.params.items()}
    for other, name in _RENAMED.get(eqn.primitive.name, ()):
        if name not in by_name and other in by_name:
            by_name[name] = by_name[other]
    if eqn.primitive.name == "scan" and "ft_in" in by_name:
        consts, carry, _ = (len(list(part)) for part in by_name["ft_in"].unpack())
        return {**by_name, "num_consts": consts, "num_carry": carry}
    if eqn.primitive.name == "dma_start":
        return {**by_name, **_dma_params(eqn)}
    if mosaic_gpu.selects_parts(eqn.primitive.name):
        return {**by_name, "parts": mosaic_gpu.parts(eqn, operand)}
    return by_name


# (name of another version, name of jax 0.10), by primitive.
_RENAMED: Mapping[str, Sequence[tuple[str, str]]] = {
    "call_hi_primitive": (("prim", "_prim"),),
    "composite": (("call_jaxpr", "jaxpr"),),
    "shard_map": (("newly_manual_axes", "manual_axes"),),
}


def _dma_params(eqn: Eqn) -> Mapping[str, Any]:
    """Return what an asynchronous copy of a kernel copies (`copied`), and whether to another device (`remote`)."""
    source: Any
    source, transforms, *rest = eqn.params["tree"].unflatten([var.aval for var in eqn.invars])
    if type(transforms) is tuple and transforms:  # before jax 0.9 the transforms are separate from the reference
        source = _states.TransformedRef(source, cast("tuple[Any, ...]", transforms))
    reference = getattr(source, "ref", source)
    return {"copied": Operand(tuple(source.shape), operand(reference).dtype), "remote": rest[-1] is not None}


def written_inputs(jaxpr: Any) -> frozenset[int]:
    """Return the positions of the inputs of a kernel that are references into which the kernel writes."""
    inner = opened(jaxpr)
    numbers = {var: number for number, var in enumerate(inner.invars)}
    written: set[int] = set()
    for effect in inner.effects:
        if isinstance(effect, (_states.WriteEffect, _states.AccumEffect)):
            # Since jax 0.9 an effect has the variable of a reference, before that its number.
            which: Any = getattr(effect, "input_index", None) if hasattr(effect, "input_index") else effect.input
            written.add(which if isinstance(which, int) else numbers.get(which, -1))
    return frozenset(written)


@dataclass(frozen=True, slots=True)
class Index:
    """What a load reads along one dimension of a reference: `size` elements from `start` on, or one if it is None.

    start: an integer or an atom of the jaxpr.
    """

    start: Any
    size: int | None
    stride: int


def loaded_part(eqn: Eqn) -> Sequence[Index] | None:
    """Return which part of its reference a load reads, by dimension; None for masks, arrays of indices and views."""
    operands: Any = eqn.params.get("tree", eqn.params.get("args_tree"))
    if eqn.primitive.name == "masked_load":
        _, transforms, mask, _ = operands.unflatten(eqn.invars)
        if mask is not None:
            return None
    else:
        transforms = operands.unflatten(eqn.invars[1:])
    if not transforms:
        return [Index(0, extent, 1) for extent in operand(eqn.invars[0].aval).shape]
    indices = getattr(transforms[0], "indices", None)
    if len(transforms) > 1 or indices is None:
        return None
    parts = [_index(index) for index in indices]
    return None if any(part is None for part in parts) else cast("Sequence[Index]", parts)


def _index(index: Any) -> Index | None:
    if hasattr(index, "size") and hasattr(index, "start"):
        size, stride = index.size, index.stride
        return Index(index.start, int(size), int(stride)) if isinstance(size, int) and isinstance(stride, int) else None
    shape = getattr(getattr(index, "aval", index), "shape", ())
    return Index(index, None, 1) if shape == () else None


def block_extents(mapping: Any) -> Sequence[tuple[int, int]] | None:
    """Return (step, size) of a block in each dimension of its array; None for blocks of another form.

    The block with index i starts at i * step. The size of a dimension that the kernel does not see is 0.
    """
    extents: list[tuple[int, int]] = []
    for dim in mapping.block_shape:
        kind, size = type(dim).__name__, getattr(dim, "block_size", dim)
        if kind == "Squeezed" or dim is None:
            extents.append((1, 0))
        elif kind in ("Blocked", "int") and isinstance(size, int):
            extents.append((size, size))
        elif kind == "Element" and isinstance(size, int) and tuple(dim.padding) == (0, 0):
            extents.append((1, size))
        else:
            return None
    return extents


def callback_name(params: Mapping[str, Any]) -> str:
    """Return what a callback runs: the Python function `inv`, or a Python function if it has no name."""
    function: Any = getattr(params.get("callback"), "callback_func", None)
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    name = getattr(function, "__name__", "")
    return f"the Python function `{name}`" if name else "a Python function"


def _plain(value: Any) -> Any:
    if isinstance(value, np.integer):
        return int(cast("Any", value))
    if is_symbolic(value):
        return count(value)
    if type(value) is tuple:
        return tuple(map(_plain, cast("tuple[Any, ...]", value)))
    return value


def expansion(primitive: Any) -> Any:
    """Return the jaxpr into which jax expands a hijax primitive. Raises Uncountable if an operand is not an array."""
    avals = tuple(primitive.in_avals_flat)
    if not all(isinstance(aval, _core.ShapedArray) for aval in avals):
        raise Uncountable("takes operands that are not arrays")
    return _expanded(primitive, avals)


@lru_cache(maxsize=256)
def _expanded(primitive: Any, avals: tuple[Any, ...]) -> Any:
    def expand(*flat: Any) -> list[Any]:
        out = primitive.expand(*_api.tree.unflatten(primitive.in_tree, flat))
        return primitive.out_tree.flatten_up_to(out)

    shapes = (jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type) for aval in avals)
    return _api.make_jaxpr(expand)(*shapes)


def lowered_primitives() -> set[Any]:
    """Return every primitive that the imported modules of jax can lower on some platform."""
    primitives = set(_mlir._lowerings)  # pyright: ignore[reportPrivateUsage]
    for table in _mlir._platform_specific_lowerings.values():  # pyright: ignore[reportPrivateUsage]
        primitives |= set(table)
    return primitives


def implementation(name: str, avals: Sequence[Any], params: Mapping[str, Any]) -> Any:
    """Return the jaxpr of a primitive's Python implementation; jax lowers such a primitive by inlining it."""
    lowered: Mapping[Any, Any] = vars(_mlir)["_lowerings"]
    primitive = next(known for known in lowered if known.name == name)

    def implemented(*args: Any) -> Any:
        return primitive.impl(*args, **params)

    return _api.make_jaxpr(implemented)(*avals)


def with_equations(jaxpr: Any, eqns: Sequence[Eqn]) -> Any:
    """Return a jaxpr with its equations replaced; it stays open or closed."""
    inner = opened(jaxpr)
    replaced = inner.replace(eqns=list(eqns))
    return replaced if inner is jaxpr else _extend_core.ClosedJaxpr(replaced, jaxpr.consts)


def map_jaxprs(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply `change` to every jaxpr in the value of a parameter, also inside tuples, lists and named tuples."""
    if is_jaxpr(value):
        return change(value)
    if isinstance(value, _SEQUENCES) and any(is_jaxpr(part) for part in value):
        parts = [map_jaxprs(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def with_scopes(eqn: Eqn, params: Mapping[str, Any], prefix: str, suffix: str) -> Eqn:
    """Return an equation with other parameters, and a scope added before ("" for none) and after its name stack.

    The scopes of the user keep no `~` and `;`: costax writes marks with one, XLA joins names with the other.
    """
    stack = [
        _sources.Scope(_RESERVED.sub("-", x.name)) if isinstance(x, _sources.Scope) else x
        for x in eqn.source_info.name_stack.stack
    ]
    if eqn.primitive.name in ("jit", "pjit"):
        # The name of a jitted function becomes a scope too.
        params = {**params, "name": _RESERVED.sub("-", params["name"])}
    before = (_sources.Scope(prefix),) if prefix else ()
    marked = _sources.NameStack((*before, *stack, _sources.Scope(suffix)))
    return eqn.replace(params=dict(params), source_info=eqn.source_info.replace(name_stack=marked))


def separated(jaxpr: Any, eqns: Sequence[Eqn]) -> Any:
    """Return a closed jaxpr of equations that have nothing to do with each other: operands and results are its own.

    jaxpr: a closed one with as many inputs and results as the equations have together.
    """
    inner = opened(jaxpr)
    inputs = iter(inner.invars)
    # A result that nobody uses has a variable that cannot be returned.
    apart = [
        eqn.replace(invars=[next(inputs) for _ in eqn.invars], outvars=[_core.Var(x.aval) for x in eqn.outvars])
        for eqn in eqns
    ]
    results = [x for eqn in apart for x in eqn.outvars]
    return _extend_core.ClosedJaxpr(inner.replace(eqns=apart, outvars=results), ())


def bind(eqn: Eqn, operands: Sequence[Any]) -> Sequence[Any]:
    """Run one equation on values, as `jax.core.eval_jaxpr` does."""
    bind_params: Any = eqn.primitive.get_bind_params(eqn.params)
    # since jax 0.12 the parameters contain the functions
    subfuns, params = cast("tuple[Any, Any]", bind_params) if isinstance(bind_params, tuple) else ((), bind_params)
    with _sources.user_context(eqn.source_info.traceback), eqn.ctx.manager:
        results = eqn.primitive.bind(*subfuns, *operands, **params)
    return cast("Sequence[Any]", results) if eqn.primitive.multiple_results else [results]
