"""Worked examples of contractions."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from costax.rules.examples import case, differs, since

_RAGGED_ROWS = lax.RaggedDotDimensionNumbers((((0,), (0,)), ((), ())), [0], [])
_RAGGED_BATCH = lax.RaggedDotDimensionNumbers((((2,), (1,)), ((0,), (0,))), [0], [])

CASES = (
    case("dot_general", lambda a, b: a @ b, "f32[4,8]", "f32[8,3]", macs=4 * 8 * 3, flops=2 * 4 * 8 * 3),
    case("dot_general", lambda a, b: a @ b, "f32[8]", "f32[8]", macs=8, flops=2 * 8),
    case("dot_general", lambda a, x: a @ x, "f32[4,64]", "f32[64]", macs=4 * 64),
    case("dot_general", lambda a, b: a @ b, "c64[4,8]", "c64[8,3]", macs=4 * 8 * 3, flops=2 * 4 * 8 * 3),
    case("dot_general", jnp.matmul, "i8[4,8]", "i8[8,3]", macs=4 * 8 * 3, flops=0, ops=2 * 4 * 8 * 3),
    case("dot_general", lambda a, b: lax.batch_matmul(a, b), "f32[5,4,8]", "f32[5,8,3]", macs=5 * 4 * 8 * 3),
    case(
        "dot_general",
        lambda q, k: jnp.einsum("btnh,bsnh->bnts", q, k),
        "f32[2,6,3,8]",
        "f32[2,5,3,8]",
        macs=2 * 3 * 6 * 5 * 8,
    ),
    case(
        "dot_general",
        lambda x, scale: jnp.einsum("bd,d->bd", x, scale),
        "f32[7,5]",
        "f32[5]",
        flops=7 * 5,
        xla=differs("HandleDot counts an addition for each product; compiled, it is 7 * 5", flops=2 * 7 * 5),
        note="No axis is contracted: one multiplication an element, no MACs.",
    ),
    case(
        "dot_general",
        lambda a, b: lax.dot(a, b, preferred_element_type=jnp.int32),
        "i8[4,8]",
        "i8[8,3]",
        macs=4 * 8 * 3,
        flops=0,
        note="Filed as i8*i8->i32: the operands' dtypes and the accumulator's.",
    ),
    case(
        "dot_general",
        lambda a, b: lax.dot(a, b, preferred_element_type=jnp.float32),
        "bf16[4,8]",
        "f32[8,3]",
        macs=4 * 8 * 3,
        flops=2 * 4 * 8 * 3,
        xla=differs("the bf16 operand is converted to f32 first, 1 an element", flops=2 * 4 * 8 * 3 + 4 * 8),
        note="Filed as bf16*f32->f32.",
    ),
    case(
        "ragged_dot_general",
        lax.ragged_dot,
        "f32[6,5]",
        "f32[3,5,4]",
        "i32[3]",
        macs=6 * 5 * 4,
        flops=2 * 6 * 5 * 4,
        xla=differs(
            "on the CPU a dense dot of a masked copy for each group, and the masks: 4 operations an element",
            flops=3 * (2 * 6 * 5 * 4 + 4 * 6 * 5) + since({(0,): 3 * 2, (0, 12): 3 * 3}),
        ),
        note="Each of the 6 rows is multiplied by one of the 3 matrices.",
    ),
    case(
        "ragged_dot_general",
        lambda a, b, groups: lax.ragged_dot_general(a, b, groups, _RAGGED_ROWS),
        "f32[6,5]",
        "f32[6,4]",
        "i32[3]",
        macs=6 * 5 * 4,
        xla=differs(
            "on the CPU a dense dot of masked copies for each group, and the masks: 4 operations an element",
            flops=3 * (2 * 6 * 5 * 4 + 4 * (6 * 5 + 6 * 4)) + since({(0,): 2 * 3 * 2, (0, 12): 2 * 3 * 3}),
        ),
        note="The gradient of ragged_dot with respect to its matrices: the rows that are summed over are grouped.",
    ),
    case(
        "ragged_dot_general",
        lambda a, b, groups: lax.ragged_dot_general(a, b, groups, _RAGGED_BATCH),
        "f32[6,5,2]",
        "f32[6,2,4]",
        "i32[3]",
        macs=6 * 5 * 2 * 4,
        note="A ragged batch costs the same as a batch.",
    ),
    case(
        "symmetric_product",
        lambda a, c: lax.linalg.symmetric_product(a, c, alpha=2.0, beta=1.0),
        "f32[4,3]",
        "f32[4,4]",
        flops=4 * 5 * (3 + 1),
        xla=differs(
            "a dense dot, whose second triangle is computed too, and two elementwise operations: beta = 1 is dropped",
            flops=2 * 4 * 4 * 3 + 2 * 4 * 4,
        ),
    ),
)

# jax.lax.scaled_dot came after 0.8.2.
if hasattr(lax, "scaled_dot"):
    CASES += (
        case(
            "scaled_dot",
            lambda a, b, a_scale, b_scale: lax.scaled_dot(a, b, lhs_scale=a_scale, rhs_scale=b_scale),
            "f8_e4m3fn[4,64]",
            "f8_e4m3fn[64,3]",
            "f8_e8m0fnu[4,2]",
            "f8_e8m0fnu[2,3]",
            macs=4 * 64 * 3,
            flops=2 * 4 * 64 * 3 + (4 * 64 + 64 * 3),
            xla=differs(
                "decomposed on the CPU: elements and scales converted to bf16, multiplied, and a dot",
                flops=2 * 4 * 64 * 3 + 3 * (4 * 64 + 64 * 3),
            ),
            note="Blocks of 32 elements share a scale; filed as f8_e4m3fn*f8_e4m3fn->bf16.",
        ),
    )
