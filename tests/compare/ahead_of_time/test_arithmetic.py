"""What XLA makes of products in dtypes that a device has no unit for: the table of costax says the same."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from aot_targets import needs
from costax.core.dtypes import short_name

pytestmark = pytest.mark.slow
# The target, the dtype of the product and of its result, and the dtypes of the products that XLA computes.
CASES = [
    # No bfloat16 on Turing: the operands are converted, on the float32 units.
    pytest.param("cuda:t4", "bfloat16", None, ["f32"], marks=needs("cuda")),
    # No fp8 on Ampere: float16.
    pytest.param("cuda:a100", "float8_e4m3fn", None, ["f16"], marks=needs("cuda")),
    # No call of a library for integers of 32 bits: a loop.
    pytest.param("cuda:a100", "int32", None, ["i32"], marks=needs("cuda")),
    pytest.param("cuda:a100", "int4", "int32", ["i32"], marks=needs("cuda")),
    # Three real products for a complex one.
    pytest.param("tpu:v5e", "complex64", None, ["f32"] * 3, marks=needs("tpu")),
]


@pytest.mark.parametrize(("target", "dtype", "result", "expected"), CASES)
def test_xla_computes_what_the_table_says(target, dtype, result, expected):
    x = jax.ShapeDtypeStruct((512, 512), getattr(jnp, dtype))

    def product(a, b):
        return lax.dot_general(a, b, (((1,), (0,)), ((), ())), preferred_element_type=result)

    compiled = costax.compare(product, target=target, passes=False)(x, x).compiled
    # On a GPU a product is a call of cuBLAS; on a TPU a custom call joins the two halves of complex numbers.
    opcodes = ("dot", "custom-call") if target.startswith("cuda") else ("dot", "convolution")
    products = [
        cost.instruction.operands[0].shape.dtype
        for cost in compiled.instruction_costs
        if cost.instruction.opcode in opcodes and len(cost.instruction.operands) > 1
    ]
    assert products == expected
    assert costax.device(target.partition(":")[2]).way(short_name(dtype)).note
