"""Every opcode against XLA itself, on generated modules of one instruction."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hlo_texts_arithmetic
import hlo_texts_control
import hlo_texts_movement
import hlo_texts_reductions
from costax import _jax
from costax.hlo import HloError, read_bytes, replay_module
from costax.hlo.opcodes import opcodes
from hlo_oracle import KEYS, agree, from_text, one, reducer
from hlo_texts import INSTRUCTIONS

# The first jaxlib that knows the opcode.
NEWER = {
    "exp2": (0, 12),
    "log2": (0, 12),
    "collective-reduce": (0, 11, 2),
    "shuffle": (0, 12),
    "mulhi": (0, 10),
    "scan": (0, 10),
}

FILLED = (hlo_texts_arithmetic, hlo_texts_control, hlo_texts_movement, hlo_texts_reductions)
"""Importing these fills the table."""

WITHOUT_GENERATOR = {"fusion": "test_hlo_fusions.py"}


@pytest.mark.parametrize("opcode", INSTRUCTIONS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_xla_charges_one_instruction_the_same(opcode, data):
    if NEWER.get(opcode, ()) > _jax.JAXLIB_VERSION:
        pytest.skip(f"{opcode} is newer than jaxlib {_jax.JAXLIB_VERSION}")
    agree(INSTRUCTIONS[opcode](data.draw))


VECTORS = {
    "cholesky": (one("f32[64,64] cholesky(p0), lower=true", "f32[64,64]"), 87381, 0, 16384),
    "triangular-solve": (
        one(
            "f32[64,32] triangular-solve(p0, p1), left_side=true, lower=true, transpose_a=NO_TRANSPOSE",
            "f32[64,64]",
            "f32[64,32]",
        ),
        262144,
        0,
        24576,
    ),
    "topk": (one("(f32[5], s32[5]) topk(p0), k=5, largest=true", "f32[1000]"), 0, 0, 4040),
    "map": (
        one("f32[1000] map(p0, p1), dimensions={0}, to_apply=c", "f32[1000]", "f32[1000]", before=reducer()),
        1000,
        0,
        12000,
    ),
    "rng": (one("f32[1000] rng(p0, p1), distribution=rng_uniform", "f32[]", "f32[]"), 0, 1000, 4008),
    "rng-bit-generator": (
        one("(u64[2], u32[1000]) rng-bit-generator(p0), algorithm=rng_default", "u64[2]"),
        0,
        1002,
        4032,
    ),
    "batch-norm": (
        one(
            "f32[2,8,8,16] batch-norm-inference(p0, p1, p2, p3, p4), epsilon=0.001, feature_index=3",
            "f32[2,8,8,16]",
            *["f32[16]"] * 4,
        ),
        0,
        0,
        16640,
    ),
    "all-reduce": (
        one("f32[1000] all-reduce(p0), replica_groups={}, to_apply=c", "f32[1000]", before=reducer()),
        1000,
        0,
        8000,
    ),
    "all-gather": (
        one("f32[4000] all-gather(p0), replica_groups={{0,1,2,3}}, dimensions={0}", "f32[1000]"),
        0,
        0,
        20000,
    ),
    "reduce-scatter": (
        one(
            "f32[250] reduce-scatter(p0), replica_groups={{0,1,2,3}}, dimensions={0}, to_apply=c",
            "f32[1000]",
            before=reducer(),
        ),
        0,
        0,
        5000,
    ),
    "ragged-dot": (
        one(
            "f32[64,16] ragged-dot(p0, p1, p2), lhs_contracting_dims={1}, rhs_contracting_dims={1}, "
            "lhs_ragged_dims={0}, rhs_group_dims={0}",
            "f32[64,32]",
            "f32[4,32,16]",
            "s32[4]",
        ),
        1024,
        0,
        20496,
    ),
    "reduce-window over a prefix": (
        one(
            "f32[1000] reduce-window(p0, p1), window={size=1000 pad=999_0}, to_apply=c",
            "f32[1000]",
            "f32[]",
            before=reducer(),
        ),
        999000,
        0,
        8004,
    ),
    "reduce-window over everything": (
        one(
            "f32[1000] reduce-window(p0, p1), window={size=1999 pad=999_999}, to_apply=c",
            "f32[1000]",
            "f32[]",
            before=reducer(),
        ),
        1000,
        0,
        8004,
    ),
    "dynamic-update-slice": (
        one("f32[100,64] dynamic-update-slice(p0, p1, p2, p3)", "f32[100,64]", "f32[10,64]", "s32[]", "s32[]"),
        0,
        0,
        5124,
    ),
    "barrier": (one("f32[1000] opt-barrier(p0)", "f32[1000]"), 0, 0, 8000),
    "add, int8": (one("s8[1000] add(p0, p1)", "s8[1000]", "s8[1000]"), 1000, 0, 3000),
    "add, packed int4": (one("s4[1000]{0:E(4)} add(p0, p1)", *["s4[1000]{0:E(4)}"] * 2), 1000, 0, 1500),
    "dynamic extent": (one("f32[<=10,5] negate(p0)", "f32[<=10,5]"), 50, 0, 416),
}


@pytest.mark.parametrize("name", VECTORS)
def test_measured_vectors(name):
    data, *expected = VECTORS[name]
    mine = agree(data)
    assert list(mine.total) == expected


def test_the_while_of_the_measured_vectors_has_the_pointer_tables_of_its_version():
    text = """body {
  s = (s32[], f32[1000]) parameter(0)
  i = s32[] get-tuple-element(s), index=0
  x = f32[1000] get-tuple-element(s), index=1
  o = s32[] constant(1)
  j = s32[] add(i, o)
  y = f32[1000] add(x, x)
  ROOT t = (s32[], f32[1000]) tuple(j, y)
}
cond {
  s = (s32[], f32[1000]) parameter(0)
  i = s32[] get-tuple-element(s), index=0
  n = s32[] constant(10)
  ROOT l = pred[] compare(i, n), direction=LT
}
"""
    state = "(s32[], f32[1000])"
    mine = agree(one(f"{state} while(p0), condition=cond, body=body", state, before=text))
    pointers = 2 * mine.cost_model.pointer_bytes
    assert tuple(mine.total) == (1000 + 1 + 1, 0, 12000 + 12 + 9 + pointers)


def test_an_opcode_without_a_law_is_named_aloud():
    data = from_text("ENTRY e {\n  p0 = f32[4] parameter(0)\n  ROOT r = f32[4] negate(p0)\n}\n")
    with pytest.raises(HloError, match="`negafe`"):
        replay_module(read_bytes(data.replace(b"negate", b"negafe")))


def test_a_property_that_is_zero_is_absent_from_xla_and_still_matches():
    mine = agree(one("f32[4] copy(p0)", "f32[4]"))
    assert mine.matches({KEYS[2]: 32.0})
    assert not mine.matches({KEYS[0]: 1.0, KEYS[2]: 32.0})


def test_every_opcode_of_the_table_has_a_generator():
    known = {name for name, _ in opcodes()}
    assert known - set(INSTRUCTIONS) - set(WITHOUT_GENERATOR) == set()
