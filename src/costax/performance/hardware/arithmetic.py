"""Arithmetic: the unit on which a device computes products of a dtype, and the cost where it has no such unit.

XLA does not refuse a dtype that the hardware lacks: it converts the operands, splits each number into several, or emits
a loop of plain instructions. One table says which, for each family of devices. Sources, 2026-11: what XLA:GPU 0.10.2
compiles `a @ b` to for a T4, A100, L4, H100 and B200 (the operands of its library call, or a loop), and the cycles that
libtpu 0.0.42 estimates for products of 4096 x 4096 matrices, divided by those of bfloat16.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Final, NamedTuple

from costax.core import dtypes


class Way(NamedTuple):
    """How a device computes a product: on `unit`, with `passes` FLOPs of the unit for each FLOP of the program.

    unit: a name in [peak] of the device file. note: what the device does instead, as a sentence, where it has no unit
    for the dtype; "" where it has.
    """

    unit: str
    passes: float = 1
    note: str = ""


def way(family: str, vendor: str, units: Container[str], dtype: str) -> Way | None:
    """Return how a device computes products of a dtype; None if it cannot, or if its file lacks the rate.

    family: "gpu", "tpu", "cpu" or "neuron". units: the names in [peak] of the device. dtype: of a contraction in
    costax, such as `bf16` or `i8*i8->i32`.

    >>> way("gpu", "NVIDIA", ("fp32", "fp16"), "bf16").unit, way("gpu", "NVIDIA", ("fp32", "tf32"), "c64")[:2]
    ('fp32', ('fp32', 4))
    """
    table = TABLES.get("apple" if vendor == "Apple" else family, {})
    return next((one for one in table.get(arithmetic_class(dtype), ()) if one.unit in units), None)


def arithmetic_class(dtype: str) -> str:
    """Return the class of a dtype that decides the unit; for a contraction that of its widest operand.

    >>> arithmetic_class("bf16*bf16->f32"), arithmetic_class("c64"), arithmetic_class("i32"), arithmetic_class("u8")
    ('bf16', 'complex64', 'int32', 'int8')
    """
    widest = max(dtype.partition("->")[0].split("*"), key=dtypes.bits)
    bits = dtypes.bits(widest)
    if dtypes.is_complex(widest):
        return "complex128" if bits > 64 else "complex64"
    if not dtypes.is_floating(widest):
        return next(f"int{size}" for size in (4, 8, 32, 64) if bits <= size or size == 64)
    return {4: "fp4", 8: "fp8", 16: "bf16" if widest == "bf16" else "fp16", 64: "fp64"}.get(bits, "fp32")


def real_products(dtype: str) -> int:
    """Return how many real products one product of a dtype is: 4 for complex numbers, else 1.

    >>> real_products("c64"), real_products("bf16*bf16->f32")
    (4, 1)
    """
    return 4 if arithmetic_class(dtype).startswith("complex") else 1


_Table = Mapping[str, Sequence[Way]]
_COMPLEX: Final = "A complex product is four real ones, on the {} units."
_NO_INT: Final = (
    "It has no matrix unit for {} products: XLA emits a plain loop of 32-bit integer arithmetic, which may take "
    "several times longer than the rate of the units."
)
_GPU: Final[_Table] = {
    "fp64": (Way("fp64_tensor"), Way("fp64_matrix"), Way("fp64")),
    # jax's default precision allows TF32.
    "fp32": (Way("tf32"), Way("fp32_matrix"), Way("fp32")),
    "bf16": (Way("bf16"), Way("fp32", 1, "It has no bfloat16 unit: XLA converts the operands to float32.")),
    "fp16": (Way("fp16"), Way("fp32", 1, "It has no float16 unit: XLA converts the operands to float32.")),
    "fp8": (
        Way("fp8"),
        Way("fp16", 1, "It has no fp8 unit: XLA converts the operands to float16."),
        Way("fp32", 1, "It has no fp8 unit: XLA converts the operands to float32."),
    ),
    "fp4": (
        Way("fp4"),
        Way("fp8", 1, "It has no fp4 unit: the rate of fp8 is taken."),
        Way("fp16", 1, "It has no fp4 unit: the rate of float16 is taken."),
    ),
    "int8": (
        Way("int8"),
        Way("int32", 1, _NO_INT.format("int8")),
        Way("fp32", 4, _NO_INT.format("int8") + " A quarter of the float32 rate is assumed."),
    ),
    # XLA uses no int4 tensor core, even where the GPU has one.
    "int4": (
        Way("int32", 1, "XLA uses no matrix unit for int4 products: it widens the operands and emits a plain loop."),
        Way("fp32", 4, "XLA uses no matrix unit for int4 products; a quarter of the float32 rate is assumed."),
    ),
    "int32": (
        Way("int32", 1, _NO_INT.format("int32")),
        Way("fp32", 4, _NO_INT.format("int32") + " A quarter of the float32 rate is assumed."),
    ),
    "int64": (
        Way("int32", 4, _NO_INT.format("int64") + " Four 32-bit products are assumed for each."),
        Way("fp32", 16, _NO_INT.format("int64") + " A sixteenth of the float32 rate is assumed."),
    ),
    "complex64": (
        Way("fp32_matrix", 4, _COMPLEX.format("float32 matrix")),
        Way("fp32", 4, _COMPLEX.format("float32") + " TF32 is not used."),
    ),
    "complex128": (
        Way("fp64_tensor", 4, _COMPLEX.format("float64")),
        Way("fp64_matrix", 4, _COMPLEX.format("float64 matrix")),
        Way("fp64", 4, _COMPLEX.format("float64")),
    ),
}
_TPU_FP64: Final = (
    "It has no float64 unit: XLA keeps a number as two float32 and computes three products at the highest precision, "
    "about 32 times the cost of a bfloat16 product (13 to 44 by the compiler's own estimates)."
)
_TPU: Final[_Table] = {
    # One pass of bfloat16 at jax's default precision.
    "fp32": (Way("bf16"),),
    "bf16": (Way("bf16"),),
    "fp16": (Way("bf16", 1, "It has no float16 unit: the compiler converts the operands, at the rate of bfloat16."),),
    "fp8": (Way("fp8"), Way("bf16", 1, "It has no fp8 unit: the compiler converts the operands to bfloat16.")),
    "fp4": (
        Way("fp8", 1, "It has no fp4 unit: the rate of fp8 is taken."),
        Way("bf16", 1, "It has no fp4 unit: the rate of bfloat16 is taken."),
    ),
    "int8": (Way("int8"), Way("bf16", 1, "It has no int8 unit: the compiler takes as long as for bfloat16.")),
    "int4": (
        Way("int4"),
        Way("int8", 1, "It has no int4 unit: the rate of int8 is taken."),
        Way("bf16", 1, "It has no int4 unit: the rate of bfloat16 is taken."),
    ),
    "int32": (
        Way("bf16", 9.5, "It has no int32 unit: the compiler splits the operands, at 9.5 times the cost of bfloat16."),
    ),
    # Of int64 libtpu says that its rewriting is not implemented.
    "fp64": (Way("bf16", 32, _TPU_FP64),),
    "complex64": (Way("bf16", 3, "A complex product is three real ones, each in one pass of bfloat16."),),
}
_CPU: Final[_Table] = {
    "fp64": (Way("fp64"),),
    "fp32": (Way("fp32"),),
    "bf16": (Way("bf16"), Way("fp32", 1, "XLA computes bfloat16 products in float32.")),
    "fp16": (Way("fp16"), Way("fp32", 1, "XLA computes float16 products in float32.")),
    "fp8": (Way("fp32", 1, "XLA computes fp8 products in float32."),),
    "fp4": (Way("fp32", 1, "XLA computes fp4 products in float32."),),
    "int8": (Way("int8"), Way("fp32", 1, "The rate of float32 is taken for int8 products.")),
    "int4": (Way("int8"), Way("fp32", 1, "The rate of float32 is taken for int4 products.")),
    "int32": (Way("fp32", 1, "The rate of float32 is taken for int32 products."),),
    "int64": (Way("fp64", 1, "The rate of float64 is taken for int64 products."),),
    "complex64": (Way("fp32", 4, _COMPLEX.format("float32")),),
    "complex128": (Way("fp64", 4, _COMPLEX.format("float64")),),
}
# The GPUs of Apple have no float64 at all, and no matrix unit that a program reaches.
_APPLE: Final[_Table] = {
    "fp32": (Way("fp32"),),
    "bf16": (Way("bf16"), Way("fp32", 1, "The rate of float32 is taken for bfloat16 products.")),
    "fp16": (Way("fp16"),),
    "fp8": (Way("fp32", 1, "It has no fp8 unit: the rate of float32 is taken."),),
    "int8": (Way("fp32", 4, "A quarter of the float32 rate is assumed for int8 products."),),
    "int4": (Way("fp32", 4, "A quarter of the float32 rate is assumed for int4 products."),),
    "int32": (Way("fp32", 4, "A quarter of the float32 rate is assumed for int32 products."),),
    "complex64": (Way("fp32", 4, _COMPLEX.format("float32")),),
}
# Source: AWS Neuron documentation, NeuronCore-v3: fp8, bf16, fp16, tf32 and fp32 operands, and no float64.
_NEURON: Final[_Table] = {
    "fp32": (Way("fp32"),),
    "bf16": (Way("bf16"),),
    "fp16": (Way("fp16"),),
    "fp8": (Way("fp8"),),
    "int8": (Way("bf16", 1, "It has no int8 unit: the rate of bfloat16 is taken."),),
    "complex64": (Way("fp32", 4, _COMPLEX.format("float32")),),
}
TABLES: Final[Mapping[str, _Table]] = {
    "gpu": _GPU,
    "tpu": _TPU,
    "cpu": _CPU,
    "apple": _APPLE,
    "neuron": _NEURON,
}
"""By family, and by class of dtypes: the ways to compute products, the preferred one first."""
