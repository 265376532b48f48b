"""Bytes: what is read and written, and what XLA says of the same program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax

ROWS = lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,))
INTO_ROWS = lax.ScatterDimensionNumbers(
    update_window_dims=(1,), inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0,)
)
PROMISED = lax.GatherScatterMode.PROMISE_IN_BOUNDS

# Programs of one HLO instruction each, so that XLA's bytes are the primitive's.
ONE_INSTRUCTION = {
    "add": (lambda x, y: x + y, "f32[4,8]", "f32[4,8]"),
    "convert_element_type": (lambda x: lax.convert_element_type(x, "bfloat16"), "f32[4,8]"),
    "broadcast_in_dim": (lambda x: lax.broadcast_in_dim(x, (5, 4), (1,)), "f32[4]"),
    "reshape": (lambda x: lax.reshape(x, (8, 4)), "f32[4,8]"),
    "rev": (lambda x: lax.rev(x, (0,)), "bf16[4,8]"),
    "concatenate": (lambda x, y: lax.concatenate([x, y], 0), "f32[4,8]", "f32[2,8]"),
    "pad": (lambda x, y: lax.pad(x, y, ((1, 1, 0), (0, 2, 1))), "f32[4,8]", "f32[]"),
    "iota": (lambda: lax.iota("int32", 8),),
    "slice": (lambda x: lax.slice(x, (1, 0), (3, 8)), "f32[100,8]"),
    "dynamic_slice": (lambda x, i: lax.dynamic_slice_p.bind(x, i, slice_sizes=(2,)), "f32[100]", "i32[]"),
    "dynamic_update_slice": (lambda x, u, i: lax.dynamic_update_slice_p.bind(x, u, i), "f32[100]", "f32[3]", "i32[]"),
    "gather": (lambda x, i: lax.gather(x, i, ROWS, (1, 8), mode=PROMISED), "f32[100,8]", "i32[7,1]"),
    "scatter-add": (
        lambda x, i, u: lax.scatter_add(x, i, u, INTO_ROWS, mode=PROMISED),
        "f32[100,8]",
        "i32[7,1]",
        "f32[7,8]",
    ),
    "scatter": (
        lambda x, i, u: lax.scatter(x, i, u, INTO_ROWS, mode=PROMISED),
        "f32[100,8]",
        "i32[7,1]",
        "f32[7,8]",
    ),
    "dot_general": (lambda a, b: lax.dot(a, b), "f32[4,8]", "f32[8,3]"),
    "exp": (lax.exp, "f32[4,8]"),
}


@pytest.mark.parametrize("name", ONE_INSTRUCTION)
def test_bytes_of_one_instruction_are_xlas(name):
    function, *shapes = ONE_INSTRUCTION[name]
    args = [costax.spec(shape) for shape in shapes]
    analysis = costax.analyze(function)(*args)
    assert list(analysis.by_primitive()) == [name]
    assert analysis.total.bytes_unfused == jax.jit(function).lower(*args).cost_analysis()["bytes accessed"]


def bytes_of(function, *shapes: str) -> tuple[int, int]:
    total = costax.analyze(function)(*map(costax.spec, shapes)).total
    return total.bytes_read, total.bytes_written


def test_a_slice_moves_its_part_whatever_the_size_of_the_whole():
    small, large = (bytes_of(lambda x: lax.slice(x, (0,), (3,)), f"f32[{n}]") for n in (10, 10**12))
    assert small == large == (3 * 4, 3 * 4)


def test_every_index_of_a_dynamic_slice_is_read():
    def part(x, i, j):
        return lax.dynamic_slice_p.bind(x, i, j, slice_sizes=(2, 8))

    assert bytes_of(part, "f32[100,8]", "i32[]", "i32[]") == (2 * 8 * 4 + 2 * 4, 2 * 8 * 4)


def test_identities_move_nothing():
    assert bytes_of(lambda x: lax.optimization_barrier(lax.stop_gradient(x)), "f32[4,8]") == (0, 0)


def test_bytes_stand_under_the_dtype_of_what_moves():
    total = costax.analyze(lambda x: lax.slice(x, (0,), (3,)))(costax.spec("bf16[10]")).total
    assert dict(total.items()) == {("bytes_read", "bf16"): 3 * 2, ("bytes_written", "bf16"): 3 * 2}


def test_a_reference_moves_what_is_touched():
    def replaced_row(x):
        ref = jax.new_ref(x)
        ref[2] = jnp.zeros(8)
        return jax.freeze(ref)

    parts = costax.analyze(replaced_row)(costax.spec("f32[100,8]")).by_primitive()
    assert parts["swap"].bytes_written == 8 * 4
    assert parts["swap"].bytes_read < 100
    assert parts["new_ref"].bytes_unfused == 2 * 100 * 8 * 4


def test_adding_to_a_reference_is_arithmetic():
    def added(x):
        ref = jax.new_ref(x)
        jax.ref.addupdate(ref, 2, jnp.ones(8))
        return jax.freeze(ref)

    parts = costax.analyze(added)(costax.spec("f32[100,8]")).by_primitive()
    assert parts["addupdate"].flops == 8
    assert parts["addupdate"].bytes_written == 8 * 4


def test_a_device_put_moves_bytes_where_a_place_is_named():
    here = jax.devices()[0]
    assert bytes_of(lambda x: jax.device_put(x, here), "f32[10]") == (40, 40)
    assert bytes_of(lambda x: jax.device_put(x), "f32[10]") == (0, 0)
