"""Damaged, hostile and random files: a clear error, bounded time and memory, never a crash."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costax.hlo import HloError, read_bytes, replay_module
from costax.hlo.proto import MESSAGES
from hlo_damaged import DAMAGED, computation, instruction, module
from hlo_samples import SPECS, module_bytes

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

# Of processor time, on a loaded machine: a reader that does not bound its work needs minutes for such a file, or all
# memory.
SECONDS = 10


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_module_is_a_clear_error_soon(name):
    start = time.process_time()
    with pytest.raises(HloError) as caught:
        replay_module(read_bytes(DAMAGED[name]))
    assert time.process_time() - start < SECONDS
    assert caught.value.what
    assert caught.value.why
    assert caught.value.cure
    assert len(str(caught.value)) < 2000


def test_two_bytes_a_million_times_do_not_fill_the_memory():
    import tracemalloc

    many = 10**6
    empty_tuples = b"\x22\x00" * many
    for data in (
        b"\x1a\x00" * many,
        module(computation(1, b"") + b"\x12\x00" * many),
        module(computation(1, instruction(1, "parameter", shape=b"\x10\x0d" + empty_tuples))),
    ):
        tracemalloc.start()
        with pytest.raises(HloError):
            replay_module(read_bytes(data))
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
        tracemalloc.stop()


def test_a_long_chain_is_no_recursion():
    chain = [instruction(1, "parameter"), *[instruction(i, operand_ids=[i - 1]) for i in range(2, 50_001)]]
    assert replay_module(read_bytes(module(computation(1, *chain, root=50_000)))).total.flops == 2 * 49_999


def survives(data: bytes) -> None:
    start = time.process_time()
    try:
        mine = replay_module(read_bytes(data))
        for row in mine.instructions:
            assert row.instruction.op_name is not None
            assert mine.module.source(row.instruction)[1] is not None
    except HloError:
        pass
    assert time.process_time() - start < SECONDS


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=300))
def test_random_bytes_never_crash(data):
    survives(data)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(list(SPECS)), st.booleans(), st.integers(0, 2**32), st.integers(1, 12), st.booleans())
def test_a_real_module_with_bytes_changed_never_crashes(fn, compiled, seed, changes, cut):
    chance = random.Random(seed)
    data = bytearray(module_bytes(fn, compiled))
    for _ in range(changes):
        place = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[place] = chance.randrange(256)
            case 1:
                data[place] ^= 1 << chance.randrange(8)
            case 2:
                del data[place : place + chance.randrange(1, 9)]
            case _:
                other = chance.randrange(len(data))
                data[place:place] = data[other : other + chance.randrange(1, 40)]
    survives(bytes(data[: chance.randrange(len(data))] if cut else data))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(list(SPECS)), st.booleans(), st.integers(0, 2**32), st.integers(1, 5))
def test_a_real_module_with_fields_changed_never_crashes(fn, compiled, seed, changes):
    """Changes that keep the protobuf well formed get past the decoder and into the rules."""
    chance = random.Random(seed)
    raw = MESSAGES["Module"].FromString(module_bytes(fn, compiled))
    comps = [MESSAGES["Computation"].FromString(c) for c in raw.computations]
    for _ in range(changes):
        comp = chance.choice(comps)
        at = chance.randrange(len(comp.instructions))
        ins = MESSAGES["Instruction"].FromString(comp.instructions[at])
        others = [MESSAGES["Instruction"].FromString(i) for i in chance.choice(comps).instructions]
        other = chance.choice(others)
        number = chance.choice([0, 1, 2, -1, 2**31, 2**62, -(2**63), ins.id, other.id])
        match chance.randrange(9):
            case 0:
                ins.opcode = other.opcode
            case 1:
                ins.shape = other.shape
            case 2:
                ins.operand_ids[:] = [*other.operand_ids, number][: chance.randrange(1, 4)]
            case 3:
                ins.called_computation_ids[:] = [chance.choice(comps).id, number][: chance.randrange(0, 3)]
            case 4:
                ins.window = other.window
                ins.dimensions[:] = [number]
            case 5:
                dims = MESSAGES["Shape"].FromString(ins.shape)
                dims.dimensions[:] = [*dims.dimensions, number][: chance.randrange(1, 4)]
                ins.shape = dims.SerializeToString()
            case 6:
                ins.feature_group_count = number
                ins.tuple_index = number
                ins.parameter_number = number
            case 7:
                ins.opcode = chance.choice(
                    [b"fusion", b"convolution", b"dot", b"scatter", b"conditional", b"sort", b"fft", b"cholesky"]
                )
            case _:
                comp.root_id = number
        comp.instructions[at] = ins.SerializeToString()
    raw.computations[:] = [c.SerializeToString() for c in comps]
    survives(raw.SerializeToString())
