"""The account of a module: every computation, every row, and float32 as numpy does it."""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from costax import _jax
from costax.hlo import float32, read_bytes, replay_module
from costax.hlo.proto import MESSAGES
from hlo_oracle import KEYS, agree, from_text, one, reducer


def mixed(x):
    y = jax.nn.softmax(jnp.tanh(x @ x)) ** 2
    y = lax.fori_loop(0, 5, lambda i, z: z * jnp.sin(z) + i, y)
    return jnp.sort(y.cumsum(0)).sum() + jnp.linalg.norm(y)


@pytest.mark.parametrize("compiled", [False, True])
def test_every_computation_costs_what_xla_says_when_it_is_made_the_entry(compiled):
    stage = jax.jit(jax.value_and_grad(mixed)).lower(jax.ShapeDtypeStruct((65, 65), jnp.float32))
    data = _jax.hlo_of(stage.compile() if compiled else stage)
    mine = replay_module(read_bytes(data))
    raw = MESSAGES["Module"].FromString(data)
    assert len(mine.computation_costs) > 10
    for key, cost in mine.computation_costs.items():
        raw.entry_computation_id = key
        raw.entry_computation_name = mine.module.computations[key].name.encode()
        xla = _jax.xla_cost(raw.SerializeToString())
        assert tuple(cost.float32) == tuple(xla.get(name, 0.0) for name in KEYS)


SHARED = """g {
  a = f32[10] parameter(0)
  b = f32[10] exponential(a)
  ROOT c = f32[10] add(b, a)
}
body {
  s = (s32[], f32[10]) parameter(0)
  i = s32[] get-tuple-element(s), index=0
  x = f32[10] get-tuple-element(s), index=1
  o = s32[] constant(1)
  j = s32[] add(i, o)
  y = f32[10] call(x), to_apply=g
  z = f32[10] call(y), to_apply=g
  ROOT t = (s32[], f32[10]) tuple(j, z)
}
cond {
  s = (s32[], f32[10]) parameter(0)
  i = s32[] get-tuple-element(s), index=0
  n = s32[] constant(7)
  ROOT l = pred[] compare(i, n), direction=LT
}
ENTRY e {
  p = (s32[], f32[10]) parameter(0)
  w = (s32[], f32[10]) while(p), condition=cond, body=body
  v = f32[10] get-tuple-element(w), index=1
  ROOT r = f32[10] call(v), to_apply=g
}
"""


def test_rows_count_calls_and_not_trips():
    mine = agree(from_text(SHARED))
    rows = {row.instruction.name.split(".")[0]: row for row in mine.instructions}
    assert rows["c"].own.flops == 10
    assert rows["c"].times == (3, 3, 3)
    assert rows["b"].transcendentals == 3 * 10
    assert rows["j"].flops == rows["l"].flops == 1
    assert "w" not in rows


def test_calls_lead_from_each_call_site_to_the_computation_it_runs():
    mine = agree(from_text(SHARED))
    entry = mine.calls(mine.module.entry)
    assert [(c.instruction.name.split(".")[0], c.callee.name) for c in entry] == [
        ("w", "body"),
        ("w", "cond"),
        ("r", "g"),
    ]
    body = mine.calls(entry[0].callee)
    assert [c.callee.name for c in body] == ["g", "g"]
    assert all(c.times == (1, 1, 1) for c in (*entry, *body))


def test_what_a_reduce_applies_belongs_to_the_reduce():
    mine = agree(one("f32[] reduce(p0, p1), dimensions={0}, to_apply=c", "f32[100]", "f32[]", before=reducer()))
    assert [(row.instruction.opcode, row.flops) for row in mine.instructions] == [("reduce", 99)]


def test_a_fusion_has_the_bytes_and_its_instructions_have_the_flops():
    fused = "f {\n  a = f32[9] parameter(0)\n  b = f32[9] exponential(a)\n  ROOT c = f32[9] add(b, a)\n}\n"
    mine = agree(one("f32[9] fusion(p0), kind=kLoop, calls=f", "f32[9]", before=fused))
    rows = {row.instruction.opcode: row for row in mine.instructions}
    assert (rows["fusion"].flops, rows["fusion"].bytes) == (0, 2 * 9 * 4)
    assert (rows["add"].flops, rows["add"].bytes) == (9, 0)
    assert rows["exponential"].transcendentals == 9


def test_an_odd_triangle_keeps_its_half_byte_only_in_float32():
    mine = agree(
        one(
            "f8e5m2[3,5] triangular-solve(p0, p1), left_side=true, lower=true, transpose_a=NO_TRANSPOSE",
            "f8e5m2[3,3]",
            "f8e5m2[3,5]",
        )
    )
    assert (mine.total.bytes, mine.float32.bytes) == (34, 34.5)


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**26), 2**26))
def test_integers_round_as_numpy_rounds_int64(value):
    assert float32.of(value) == float(np.int64(value).astype(np.float32))


@given(st.integers(-(2**70), 2**70))
def test_integers_beyond_int64_wrap(value):
    assert float32.of(value) == float(np.uint64(value % 2**64).astype(np.int64).astype(np.float32))


# Counts and bytes are whole, but for the half byte of an odd triangle.
single = st.integers(-(2**63), 2**63).map(lambda n: float32.of(Fraction(n, 2)))


@given(single, single)
def test_sums_and_products_round_as_numpy_rounds_float32(a, b):
    assert float32.add(a, b) == float(np.float32(a) + np.float32(b))
    assert float32.times(a, b) == float(np.float32(a) * np.float32(b))
