"""What changed between jaxlib versions, as measured; the installed one is asked again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costax import _jax
from costax.hlo import cost_model_for, read_bytes, replay_module
from hlo_oracle import agree, from_text, one

OLD, NEW = ("0.8.2", "0.10.2", "0.11.1"), ("0.11.2", "0.12.0.1")

# (module, bytes up to jaxlib 0.11.1, bytes from 0.11.2 on), each measured with that jaxlib.
MEASURED = {
    "tuple copied": (one("(f32[10], f32[4]) copy(p0)", "(f32[10], f32[4])"), 72, 64),
    "tuple in a tuple": (one("(f32[10], (f32[4], f32[1])) copy(p0)", "(f32[10], (f32[4], f32[1]))"), 76, 68),
    "tuple made": (one("(f32[10], f32[4], f32[2]) tuple(p0, p1, p2)", "f32[10]", "f32[4]", "f32[2]"), 24, 12),
    "token in a tuple": (one("(token[], f32[1]) copy(p0)", "(token[], f32[1])"), 20, 12),
    "tiled": (one("f32[10,100]{1,0:T(8,128)} negate(p0)", "f32[10,100]{1,0:T(8,128)}"), 8000, 16384),
    "tiled, other order": (one("f32[10,100]{0,1:T(8,128)} negate(p0)", "f32[10,100]{0,1:T(8,128)}"), 8000, 106496),
    "tile of higher rank": (one("f32[100]{0:T(8,128)} negate(p0)", "f32[100]{0:T(8,128)}"), 800, 8192),
    "tiled scalar": (one("f32[]{:T(128)} negate(p0)", "f32[]{:T(128)}"), 8, 1024),
    "tiled and packed": (one("s4[100]{0:T(128)E(4)} negate(p0)", "s4[100]{0:T(128)E(4)}"), 100, 128),
    "tiled and padded at the end": (
        one("f32[100]{0:T(128)L(1024)} negate(p0)", "f32[100]{0:T(128)L(1024)}"),
        800,
        8192,
    ),
    "tiled and split": (
        one("f32[10,100]{1,0:T(8,128)SC(0:4)} negate(p0)", "f32[10,100]{1,0:T(8,128)SC(0:4)}"),
        8000,
        8192,
    ),
}


@pytest.mark.parametrize("name", MEASURED)
def test_sizes_are_those_of_the_version(name):
    data, old, new = MEASURED[name]
    module = read_bytes(data)
    assert [replay_module(module, cost_model_for(v)).total.bytes for v in (*OLD, *NEW)] == [old] * len(OLD) + [
        new
    ] * len(NEW)
    agree(data)


def test_call_markers_are_free_since_0_11_and_minus_one_before():
    target = "__xla_internal_call_marker_before"
    data = one(f'f32[4] custom-call(p0), custom_call_target="{target}"', "f32[4]")
    module = read_bytes(data)
    assert [replay_module(module, cost_model_for(v)).total.flops for v in ("0.10.2", "0.11.0", "0.12.0.1")] == [
        -1,
        0,
        0,
    ]
    agree(data)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=3),
    st.lists(st.sampled_from([1, 2, 8, 128]), min_size=1, max_size=3),
    st.sampled_from(["f32", "bf16", "s8", "pred"]),
    st.data(),
)
def test_tiles_cost_what_the_installed_xla_says(dims, tile, dtype, data):
    order = ",".join(map(str, data.draw(st.permutations(range(len(dims))))))
    shape = f"{dtype}[{','.join(map(str, dims))}]{{{order}:T({','.join(map(str, tile))})}}"
    agree(one(f"{shape} copy(p0)", shape))


def test_the_installed_jaxlib_is_the_default():
    assert cost_model_for().version == _jax.JAXLIB_VERSION
    assert cost_model_for("0.10.2").version == (0, 10, 2)


def test_integers_wrap_as_in_int64():
    data = from_text(
        "ENTRY e {\n  a = f32[1800000,1800000] parameter(0)\n"
        "  ROOT d = f32[1800000,1800000] dot(a, a), lhs_contracting_dims={1}, rhs_contracting_dims={0}\n}\n"
    )
    mine = agree(data)
    assert mine.total.flops == 2 * 1_800_000**3
    assert mine.float32.flops < 0
