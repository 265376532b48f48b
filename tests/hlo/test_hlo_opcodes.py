"""Every opcode against XLA itself, on generated modules of one instruction."""

from __future__ import annotations

import pytest
from hlo_oracle import KEYS, agree, from_text, one, reducer
from hlo_texts import INSTRUCTIONS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costax import _jax
from costax.hlo import HloError, read_bytes, replay
from costax.hlo.laws import opcodes

# What this jaxlib has no text syntax for, or no opcode.
NEWER = {"exp2": (0, 12), "log2": (0, 12), "mulhi": (0, 9), "scan": (0, 10), "scaled-dot": (0, 10)}

WITHOUT_GENERATOR = {"fusion": "test_hlo_fusions.py"}


@pytest.mark.parametrize("opcode", INSTRUCTIONS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_xla_charges_one_instruction_the_same(opcode, data):
    if NEWER.get(opcode, ()) > _jax.JAXLIB_VERSION:
        pytest.skip(f"{opcode} is newer than jaxlib {_jax.JAXLIB_VERSION}")
    agree(INSTRUCTIONS[opcode](data.draw))


def test_every_opcode_of_the_table_has_a_generator():
    known = {name for name, _ in opcodes()}
    print(sorted(known - set(INSTRUCTIONS)))
    assert known - set(INSTRUCTIONS) - set(WITHOUT_GENERATOR) == set()
