"""The StableHLO of exported functions: attributes, shapes and source locations of operations as plain values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import jax
import numpy as np
from jax._src import source_info_util as _sources
from jax._src.interpreters import mlir as _mlir
from jax._src.lib.mlir.dialects import hlo as _stablehlo
from jaxlib.mlir import ir as _ir

from costax.core.equation import Operand

# Untyped, because jax's annotations are incomplete.
_api: Any = jax
_mlir_api: Any = _ir


def exported_module(exported: Any, inputs: Sequence[Operand]) -> Any:
    """Return the StableHLO module of a `jax.export.Exported`, with the sizes of a call for symbolic dimensions."""
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
    "comparison_direction": lambda attr: _stablehlo.ComparisonDirectionAttr(attr).value,
    "fft_type": lambda attr: _stablehlo.FftTypeAttr(attr).value,
    "rng_algorithm": lambda attr: _stablehlo.RngAlgorithmAttr(attr).value,
}


def attribute(op: Any, name: str, default: Any = None) -> Any:
    """Return an attribute of an MLIR operation as a plain value, or `default` if the operation does not have it."""
    attributes = op.operation.attributes
    if name not in attributes:
        return default
    value = attributes[name]
    if op.operation.name == "stablehlo.convolution" and name == "dimension_numbers":
        return _stablehlo.ConvDimensionNumbers(value)
    return _ATTRIBUTES[name](value) if name in _ATTRIBUTES else _plain_attribute(value)


def _plain_attribute(value: Any) -> Any:
    if isinstance(value, _ir.DictAttr):
        return {entry.name: _plain_attribute(entry.attr) for entry in value}
    if isinstance(value, _ir.DenseIntElementsAttr):
        return np.array(value).tolist()
    if isinstance(value, _ir.DenseI64ArrayAttr):
        return tuple(value)
    return getattr(value, "value", value)


def constant(op: Any) -> int | None:
    """Return the value of a `stablehlo.constant` that is an integer scalar, else None."""
    result = _ir.RankedTensorType(op.results[0].type)
    if result.shape or not isinstance(result.element_type, _ir.IntegerType):
        return None
    # Read last: MLIR's Python has no class for the values of a complex constant, and raises TypeError.
    return int(np.array(op.operation.attributes["value"]))


_ELEMENTS = {"i1": "bool", "complex<f32>": "c64", "complex<f64>": "c128"}


def tensor(value: Any) -> Operand:
    """Return the shape and dtype of an MLIR value; a token is empty."""
    if not isinstance(value.type, _ir.RankedTensorType):
        return Operand((0,), "token")
    tensor_type = _ir.RankedTensorType(value.type)
    element = str(tensor_type.element_type)
    eighth = re.fullmatch(r"f(\d)E(\d)M(\d)(\w*)", element)
    name = f"f{eighth[1]}_e{eighth[2]}m{eighth[3]}{eighth[4].lower()}" if eighth else element
    return Operand(tuple(tensor_type.shape), _ELEMENTS.get(name, name.replace("ui", "u")))


def operation_source_info(op: Any) -> Any:
    """Return the source info of an MLIR operation, with the scopes in its location as the name stack."""
    location = op.operation.location
    # Before jax 0.9 every location has `name_str`, but to read it ends the process if the location has no name.
    named = location.is_a_name() if hasattr(location, "is_a_name") else hasattr(location, "name_str")
    *path, _ = location.name_str.split("/") if named else ("",)
    return _source_info(
        tuple(part for part in path if re.fullmatch(r"[\w.~-]+", part) and not _CONTROL.fullmatch(part))
    )


# Names that jax puts on the name stack for control flow; they are not scopes of the user.
_CONTROL = re.compile(r"while|body|cond|closed_call|checkpoint|branch_\d+_fun|rematted_computation")


@cache
def _source_info(path: tuple[str, ...]) -> Any:
    stack = _sources.NameStack()
    for name in path:
        stack = stack.extend(name)
    info: Any = _sources.new_source_info()
    return info.replace(name_stack=stack)
