"""Worked examples of slices, gathers and scatters: the accessed elements are moved, and scatters add."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

from jax import lax

from costax.rules.examples import case

_ROWS = lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,))
_INTO_ROWS = lax.ScatterDimensionNumbers(
    update_window_dims=(1,), inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0,)
)
_PROMISED = lax.GatherScatterMode.PROMISE_IN_BOUNDS

CASES = (
    case("slice", lambda x: lax.slice(x, (1, 0), (3, 8)), "f32[100,8]", flops=0, ops=0),
    case(
        "dynamic_slice",
        lambda x, i, j: lax.dynamic_slice_p.bind(x, i, j, slice_sizes=(2, 8)),
        "f32[100,8]",
        "i32[]",
        "i32[]",
    ),
    case(
        "dynamic_update_slice",
        lambda x, u, i, j: lax.dynamic_update_slice_p.bind(x, u, i, j),
        "f32[100,8]",
        "f32[2,8]",
        "i32[]",
        "i32[]",
    ),
    case(
        "gather", lambda x, i: lax.gather(x, i, _ROWS, (1, 8), mode=_PROMISED), "f32[100,8]", "i32[7,1]", flops=0, ops=0
    ),
    case(
        "scatter",
        lambda x, i, u: lax.scatter(x, i, u, _INTO_ROWS, mode=_PROMISED),
        "f32[100,8]",
        "i32[7,1]",
        "f32[7,8]",
        flops=0,
        ops=0,
    ),
    case(
        "scatter-add",
        lambda x, i, u: lax.scatter_add(x, i, u, _INTO_ROWS, mode=_PROMISED),
        "f32[100,8]",
        "i32[7,1]",
        "f32[7,8]",
        flops=7 * 8,
    ),
    case(
        "scatter-mul",
        lambda x, i, u: lax.scatter_mul(x, i, u, _INTO_ROWS, mode=_PROMISED),
        "f32[100,8]",
        "i32[7,1]",
        "f32[7,8]",
        flops=7 * 8,
    ),
)
