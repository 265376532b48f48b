"""The only file that knows jax versions and jax internals.

Supported: jax 0.8.2 and newer. From 0.12 on `Jaxpr` and `ClosedJaxpr` are one class; before, a closed jaxpr
holds an open one and its constants. Everything here hides that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache, lru_cache
from typing import Any, cast

import jax
import numpy as np
from jax._src import core as _core
from jax._src import source_info_util as _sources
from jax._src.interpreters import mlir as _mlir
from jax._src.interpreters import partial_eval as _partial_eval
from jax._src.lib.mlir.dialects import hlo as _stablehlo
from jax._src.state import types as _states
from jax.extend import core as _extend_core
from jaxlib.mlir import ir as _ir

from costax import dtypes
from costax.equation import Operand
from costax.errors import Uncountable

Jaxpr = Any
"""An open jaxpr: something with `eqns`, `invars`, `constvars` and `outvars`."""
Var = Any
Eqn = Any

_OWN_FILES = os.path.dirname(__file__) + os.sep

# Parts whose annotations name less than they hold.
_api: Any = jax
_mlir_api: Any = _ir
_frames: Any = _sources

VERSION: tuple[int, ...] = tuple(int(part) for part in re.findall(r"\d+", jax.__version__)[:3])


# Jaxprs.


def is_jaxpr(value: object) -> bool:
    """Say whether a value is a jaxpr, open or closed."""
    return isinstance(value, (_core.Jaxpr, _extend_core.ClosedJaxpr))


def opened(jaxpr: Any) -> Jaxpr:
    """Return the open jaxpr of an open or closed one."""
    return jaxpr if isinstance(jaxpr, _core.Jaxpr) else jaxpr.jaxpr


def constants(jaxpr: Any) -> Sequence[Any]:
    """Return the values of the constant variables, as far as the jaxpr holds them."""
    return () if not isinstance(jaxpr, _extend_core.ClosedJaxpr) else jaxpr.consts


def is_literal(atom: Any) -> bool:
    """Say whether an atom is a literal and not a variable."""
    return isinstance(atom, _extend_core.Literal)


def live_part(jaxpr: Any) -> Any:
    """Return what is left after the dead-code elimination that `jit` does before it lowers; effects and inputs stay."""
    outer = opened(jaxpr)
    live, _ = _partial_eval.dce_jaxpr(outer, [True] * len(outer.outvars), instantiate=True)
    return live if isinstance(jaxpr, _core.Jaxpr) else _extend_core.ClosedJaxpr(live, jaxpr.consts)


def operand(aval: Any) -> Operand:
    """Return the plain value of an abstract value; a reference is the array behind it, a token is empty."""
    inner = getattr(aval, "inner_aval", aval)
    shape = getattr(inner, "shape", None)
    dtype = getattr(inner, "dtype", None)
    if shape is None or dtype is None:
        return Operand((0,), "token")
    return Operand(tuple(shape), dtypes.short_name(_dtype_name(dtype)))


@cache
def _dtype_name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def generator(name: str) -> Any:
    """Return jax's implementation of a generator such as `philox4x32`, or None where this jax has none."""
    try:
        return _api.eval_shape(lambda: jax.random.key(0, impl=name)).dtype._impl
    except ValueError:
        return None


def integer_value(value: Any) -> int | None:
    """Return the value of a concrete integer scalar, else None. Nothing is computed on a device."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, _core.Tracer) or getattr(value, "shape", None) != ():
        return None
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return int(value) if kind in "iub" and kind else None


def params(eqn: Eqn) -> Mapping[str, Any]:
    """Return the parameters of an equation under the names of jax 0.10, whatever the version.

    `scan` has `num_consts` and `num_carry` (from 0.12 on it holds trees instead), `shard_map` has `manual_axes`,
    `dma_start` what it moves.
    Integers are Python's: numpy's would overflow in a product, silently.
    """
    found = {name: _plain(value) for name, value in eqn.params.items()}
    for old, new in _RENAMED.get(eqn.primitive.name, ()):
        if new not in found and old in found:
            found[new] = found[old]
    if eqn.primitive.name == "scan" and "ft_in" in found:
        consts, carry, _ = (len(list(part)) for part in found["ft_in"].unpack())
        return {**found, "num_consts": consts, "num_carry": carry}
    if eqn.primitive.name == "dma_start":
        return {**found, **_copied(eqn)}
    return found


# (name of another version, name of jax 0.10), by primitive.
_RENAMED: Mapping[str, Sequence[tuple[str, str]]] = {
    "call_hi_primitive": (("prim", "_prim"),),
    "composite": (("call_jaxpr", "jaxpr"),),
    "shard_map": (("newly_manual_axes", "manual_axes"),),
}


def _copied(eqn: Eqn) -> Mapping[str, Any]:
    """Return what an asynchronous copy of a kernel moves (`copied`), and whether to another device (`remote`)."""
    source: Any
    source, transforms, *rest = eqn.params["tree"].unflatten([var.aval for var in eqn.invars])
    if type(transforms) is tuple and transforms:  # before jax 0.9 a reference and its transforms come apart
        source = _states.TransformedRef(source, cast("tuple[Any, ...]", transforms))
    reference = getattr(source, "ref", source)
    return {"copied": Operand(tuple(source.shape), operand(reference).dtype), "remote": rest[-1] is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, np.integer):
        return int(cast("Any", value))
    if type(value) is tuple:
        return tuple(map(_plain, cast("tuple[Any, ...]", value)))
    return value


# Names and places.


def name_stack(eqn: Eqn) -> Any:
    """Return the name stack of an equation: an object that many equations share."""
    return eqn.source_info.name_stack


def name_stack_parts(stack: Any) -> list[tuple[bool, str]]:
    """Return (is a transform, name) for each part of a name stack, outermost first."""
    return [(isinstance(part, _sources.Transform), part.name) for part in stack.stack]


def source(eqn: Eqn) -> str:
    """Return the user's file and line of an equation as `path:line`, or "" where jax kept none."""
    traceback = eqn.source_info.traceback
    if traceback is None:
        return ""
    codes, instructions = traceback.raw_frames()
    for code, instruction in zip(codes, instructions, strict=True):
        line = _lines.get((id(code), instruction))
        if line is None:
            # The code object is kept beside its line: its id is the key, for hashing code is slow.
            line = _lines[id(code), instruction] = (_user_line(code, instruction), code)
        if line[0]:
            return line[0]
    return ""


_lines: dict[tuple[int, int], tuple[str, Any]] = {}


def _user_line(code: Any, instruction: int) -> str:
    if not is_user_file(code.co_filename):
        return ""
    line = _frames.xla_client.Traceback.code_addr2line(code, instruction)
    return f"{code.co_filename}:{line}"


def is_user_file(filename: str) -> bool:
    """Say whether a file belongs to the user: neither to jax nor to costax, whose frames lie between the two."""
    return _sources.is_user_filename(filename) and not filename.startswith(_OWN_FILES)


# Stages.


_JITTED: type[Any] = cast("Any", type(_api.jit(lambda: None)))
# Part of the key of jax's caches of traces. It is made here, once, because each new context empties those caches.
_SCOPES_OF = _api.make_user_context(None)


def isolated(key: Hashable) -> AbstractContextManager[None]:
    """Return a context whose traces jax caches apart: the scopes that are added in it stay in it."""
    return _SCOPES_OF(key)


def is_jitted(fn: object) -> bool:
    """Say whether a function is what `jax.jit` returns."""
    return isinstance(fn, _JITTED)


def without_named_scope(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what `@jax.named_scope(...)` decorates, or the function itself where it is not decorated so."""
    # Before jax 0.10 the wrapper is contextlib's, and only the context manager in its closure is jax's.
    cells = getattr(function, "__closure__", None) or ()
    decorated = any(isinstance(cell.cell_contents, _sources.ExtendNameStackContextManager) for cell in cells)
    return getattr(function, "__wrapped__", function) if decorated else function


def jitted(fn: Callable[..., Any], static: Mapping[str, Any]) -> Any:
    """Return `jax.jit(fn)`; a jitted function keeps its own static and donated arguments."""
    return fn if isinstance(fn, _JITTED) and not static else _api.jit(fn, **static)


def static_arguments(fn: Any, count: int) -> tuple[set[int], set[str]]:
    """Return which of `count` positional arguments and which keywords a jitted function holds static."""
    info = fn._jit_info
    return {n % count for n in info.static_argnums if count and -count <= n < count}, set(info.static_argnames)


def lower(traced_or_jaxpr: Any) -> Any:
    """Lower a traced function, or a closed jaxpr, for the CPU."""
    traced = traced_or_jaxpr
    if is_jaxpr(traced):
        avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in opened(traced).invars]
        traced = _api.jit(_extend_core.jaxpr_as_fun(traced)).trace(*avals)
    with jax.default_device(_api.devices("cpu")[0]):
        return traced.lower(lowering_platforms=("cpu",))


def is_traced(value: object) -> bool:
    """Say whether a value is a `jax.stages.Traced`."""
    return isinstance(value, jax.stages.Traced)


def is_lowered(value: object) -> bool:
    """Say whether a value is a `jax.stages.Lowered`."""
    return isinstance(value, jax.stages.Lowered)


def is_compiled(value: object) -> bool:
    """Say whether a value is a `jax.stages.Compiled`."""
    return isinstance(value, jax.stages.Compiled)


def expansion(primitive: Any) -> Any:
    """Return the jaxpr that a hijax primitive stands for. Raises Uncountable where its operands are no arrays."""
    avals = tuple(primitive.in_avals_flat)
    if not all(isinstance(aval, _core.ShapedArray) for aval in avals):
        raise Uncountable("takes operands that are no arrays")
    return _expanded(primitive, avals)


@lru_cache(maxsize=256)
def _expanded(primitive: Any, avals: tuple[Any, ...]) -> Any:
    def expand(*flat: Any) -> list[Any]:
        out = primitive.expand(*_api.tree.unflatten(primitive.in_tree, flat))
        return primitive.out_tree.flatten_up_to(out)

    shapes = (jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type) for aval in avals)
    return _api.make_jaxpr(expand)(*shapes)


# Primitives.


def lowered_primitives() -> set[Any]:
    """Return every primitive that jax, as far as it is imported, can lower on some platform."""
    found = set(_mlir._lowerings)  # pyright: ignore[reportPrivateUsage]
    for table in _mlir._platform_specific_lowerings.values():  # pyright: ignore[reportPrivateUsage]
        found |= set(table)
    return found


# StableHLO, which exported functions hold.


def exported_module(exported: Any, inputs: Sequence[Operand]) -> Any:
    """Return the StableHLO module of a `jax.export.Exported`, its symbolic dimensions replaced by those of a call."""
    if not any(_symbolic(aval) for aval in exported.in_avals):
        with _mlir.make_ir_context():
            return _mlir_api.Module.parse(exported.mlir_module())
    avals = [jax.ShapeDtypeStruct(x.shape, aval.dtype) for x, aval in zip(inputs, exported.in_avals, strict=True)]
    args, kwargs = _api.tree.unflatten(exported.in_tree, avals)
    lowered = _api.jit(exported.call).trace(*args, **kwargs).lower(lowering_platforms=exported.platforms[:1])
    return _mlir.refine_polymorphic_shapes(lowered.compiler_ir("stablehlo"))


def _symbolic(aval: Any) -> bool:
    return not all(isinstance(extent, int) for extent in aval.shape)


_ATTRIBUTES: Mapping[str, Callable[[Any], Any]] = {
    "dot_dimension_numbers": _stablehlo.DotDimensionNumbers,
    "comparison_direction": lambda found: _stablehlo.ComparisonDirectionAttr(found).value,
    "fft_type": lambda found: _stablehlo.FftTypeAttr(found).value,
    "rng_algorithm": lambda found: _stablehlo.RngAlgorithmAttr(found).value,
}


def attribute(op: Any, name: str, default: Any = None) -> Any:
    """Return an attribute of an MLIR operation as a plain value, or the default."""
    attributes = op.operation.attributes
    if name not in attributes:
        return default
    found = attributes[name]
    if op.operation.name == "stablehlo.convolution" and name == "dimension_numbers":
        return _stablehlo.ConvDimensionNumbers(found)
    return _ATTRIBUTES[name](found) if name in _ATTRIBUTES else _plain_attribute(found)


def _plain_attribute(found: Any) -> Any:
    if isinstance(found, _ir.DictAttr):
        return {entry.name: _plain_attribute(entry.attr) for entry in found}
    if isinstance(found, _ir.DenseIntElementsAttr):
        return np.array(found).tolist()
    if isinstance(found, _ir.DenseI64ArrayAttr):
        return tuple(found)
    return getattr(found, "value", found)


def constant(op: Any) -> int | None:
    """Return the value of a `stablehlo.constant` that is an integer scalar, else None."""
    found = op.operation.attributes["value"]
    scalar = isinstance(found, _ir.DenseIntElementsAttr) and not _ir.RankedTensorType(found.type).shape
    return int(np.array(found)) if scalar else None


def literal(value: int, aval: Operand) -> Any:
    """Return a jaxpr's literal."""
    return _extend_core.Literal(value, aval)


_ELEMENTS = {"i1": "bool", "complex<f32>": "c64", "complex<f64>": "c128"}


def tensor(value: Any) -> Operand:
    """Return shape and dtype of an MLIR value; a token is empty."""
    if not isinstance(value.type, _ir.RankedTensorType):
        return Operand((0,), "token")
    found = _ir.RankedTensorType(value.type)
    element = str(found.element_type)
    eighth = re.fullmatch(r"f(\d)E(\d)M(\d)(\w*)", element)
    name = f"f{eighth[1]}_e{eighth[2]}m{eighth[3]}{eighth[4].lower()}" if eighth else element
    return Operand(tuple(found.shape), _ELEMENTS.get(name, name.replace("ui", "u")))


def place(op: Any) -> Any:
    """Return the source info of an MLIR operation: the scopes that its location names, outermost first."""
    location = op.operation.location
    # Before jax 0.9 every location has `name_str`, and reading it where there is no name ends the process.
    named = location.is_a_name() if hasattr(location, "is_a_name") else hasattr(location, "name_str")
    *path, _ = location.name_str.split("/") if named else ("",)
    return _source_info(
        tuple(part for part in path if re.fullmatch(r"[\w.~-]+", part) and not _CONTROL.fullmatch(part))
    )


# What jax puts on the name stack for control flow; it names no scope of the user's.
_CONTROL = re.compile(r"while|body|cond|closed_call|checkpoint|branch_\d+_fun|rematted_computation")


@cache
def _source_info(path: tuple[str, ...]) -> Any:
    stack = _sources.NameStack()
    for name in path:
        stack = stack.extend(name)
    info: Any = _sources.new_source_info()
    return info.replace(name_stack=stack)


def implementation(name: str, avals: Sequence[Any], params: Mapping[str, Any]) -> Any:
    """Return the jaxpr of the function that implements a primitive which jax lowers by inlining that function."""
    lowered: Mapping[Any, Any] = vars(_mlir)["_lowerings"]
    primitive = next(known for known in lowered if known.name == name)

    def implemented(*args: Any) -> Any:
        return primitive.impl(*args, **params)

    return _api.make_jaxpr(implemented)(*avals)
