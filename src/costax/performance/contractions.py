"""Contractions: the sizes and the precision of a product or a convolution, which decide how fast it runs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Final

from costax.core.cost import Count
from costax.hlo.library_calls import product_dimensions, product_precision
from costax.hlo.records import Instruction
from costax.rules.traits import ContractionKind

if TYPE_CHECKING:
    from costax.program.regions import Op

Sizes = tuple[Count, Count, Count, Count]
"""(batch, m, n, k): `batch` products (m, k) x (k, n). A convolution is one for each group of channels."""

# The names of `xla.PrecisionConfig.Algorithm`, by number. Source: xla/xla_data.proto.
_ALGORITHMS: Final = {
    1: "ANY_F8_ANY_F8_F32",
    2: "ANY_F8_ANY_F8_F32_FAST_ACCUM",
    3: "F16_F16_F16",
    4: "F16_F16_F32",
    5: "BF16_BF16_BF16",
    6: "BF16_BF16_F32",
    7: "BF16_BF16_F32_X3",
    8: "BF16_BF16_F32_X6",
    9: "TF32_TF32_F32",
    10: "TF32_TF32_F32_X3",
    11: "F32_F32_F32",
    12: "F64_F64_F64",
    13: "BF16_BF16_F32_X9",
}
# cuDNN's calls that have the operands of a convolution of HLO; the gradients have others.
_FORWARD_CONVOLUTIONS: Final = ("__cudnn$convForward", "__cudnn$convBiasActivationForward")
_PRECISIONS: Final = {1: "HIGH", 2: "HIGHEST"}


@dataclass(frozen=True, slots=True)
class Contraction:
    """A product or a convolution: the FLOPs of one run, and what its speed depends on.

    kind: "matmul", "convolution", "depthwise", or "plain convolution" for one that XLA compiles to a loop of its own.
    rows: the smaller free extent of a product. filter_bytes: bytes of the filter of a convolution. sizes: batch, m, n,
    k; () if they are not known. precision: "" for jax's default, "HIGH", "HIGHEST", or the name of a dot algorithm
    such as "BF16_BF16_F32_X3".
    """

    kind: str
    dtype: str
    flops: Count
    rows: Count = 0
    filter_bytes: Count = 0
    sizes: Sizes | tuple[()] = ()
    precision: str = ""


def precision(parameter: Any) -> str:
    """Return the precision of a `precision` parameter of jax; of two operands with different ones, the higher.

    >>> precision(None), precision("BF16_BF16_F32_X3")
    ('', 'BF16_BF16_F32_X3')
    """
    if isinstance(parameter, tuple | list):
        names = [precision(one) for one in parameter]  # pyright: ignore[reportUnknownVariableType]
        return next((name for name in ("HIGHEST", "HIGH") if name in names), next(iter(names), ""))
    name = str(getattr(parameter, "name", parameter or ""))
    if hasattr(parameter, "num_primitive_operations"):
        types = (parameter.lhs_precision_type, parameter.rhs_precision_type, parameter.accumulation_type)
        name = "_".join(_type_name(one) for one in types)
        times = parameter.num_primitive_operations
        return name if times == 1 else f"{name}_X{times}"
    return "" if name == "DEFAULT" else name


def _type_name(dtype: Any) -> str:
    name = str(getattr(dtype, "name", None) or getattr(dtype, "__name__", dtype)).lower()
    return {"bfloat16": "BF16", "float32": "F32", "float16": "F16", "float64": "F64", "tf32": "TF32"}.get(name, name)


def sizes_of(op: Op) -> Sizes | tuple[()]:
    """Return the sizes of the contraction of an op; () for one that is neither a product nor a convolution."""
    kind, params = op.traits.contraction, op.equation.params
    if kind is ContractionKind.CONVOLUTION:
        dims = params["dimension_numbers"]
        out, kernel = op.equation.outvars[0].aval.shape, op.equation.invars[1].aval.shape
        batch, features, *positions = (out[axis] for axis in dims.out_spec)
        _, inner, *taps = (kernel[axis] for axis in dims.rhs_spec)
        groups = params["feature_group_count"] * params["batch_group_count"]
        return groups, batch * prod(positions), features // groups, inner * prod(taps)
    if "dimension_numbers" not in params or kind is not ContractionKind.PRODUCT:
        return ()
    (ours, theirs), (our_batch, their_batch) = params["dimension_numbers"]
    lhs, rhs = (var.aval.shape for var in op.equation.invars[:2])
    return (
        prod(lhs[axis] for axis in our_batch),
        prod(n for axis, n in enumerate(lhs) if axis not in (*ours, *our_batch)),
        prod(n for axis, n in enumerate(rhs) if axis not in (*theirs, *their_batch)),
        prod(lhs[axis] for axis in ours),
    )


def compiled_sizes(ins: Instruction) -> Sizes | tuple[()]:
    """Return the sizes of a dot or a convolution of a module; () for another instruction."""
    if ins.opcode == "convolution" or ins.custom_call_target in _FORWARD_CONVOLUTIONS:
        d = ins.convolution_dimensions
        out, kernel = next(iter(ins.shape.arrays())).dims, ins.operand(1).shape.dims
        groups = max(ins.feature_group_count, 1) * max(ins.batch_group_count, 1)
        rows = out[d.output_batch] * prod(out[axis] for axis in d.output_spatial)
        depth = kernel[d.kernel_input_feature] * prod(kernel[axis] for axis in d.kernel_spatial)
        return groups, rows, out[d.output_feature] // groups, depth
    d = ins.dot_dimensions if ins.opcode == "dot" else product_dimensions(ins)
    if d is None or len(ins.operands) < 2:
        return ()
    lhs, rhs = ins.operand(0).shape.dims, ins.operand(1).shape.dims
    return (
        prod(lhs[axis] for axis in d.lhs_batch),
        prod(n for axis, n in enumerate(lhs) if axis not in (*d.lhs_contracting, *d.lhs_batch)),
        prod(n for axis, n in enumerate(rhs) if axis not in (*d.rhs_contracting, *d.rhs_batch)),
        prod(lhs[axis] for axis in d.lhs_contracting),
    )


def compiled_precision(ins: Instruction) -> str:
    """Return the precision of a dot or a convolution of a module."""
    if ins.opcode == "custom-call":
        names, algorithm = product_precision(ins)
        return algorithm or next((name for name in ("HIGHEST", "HIGH") if name in names), "")
    operands, algorithm = ins.precision_config
    if algorithm:
        return _ALGORITHMS.get(algorithm, f"algorithm {algorithm}")
    return _PRECISIONS.get(max(operands, default=0), "")
