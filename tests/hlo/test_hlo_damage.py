"""Damaged, hostile and random files: a clear error within a second, bounded memory, never a crash."""

from __future__ import annotations

import random
import time

import pytest
from hlo_samples import SPECS, module_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costax.hlo import HloError, read_bytes, replay
from costax.hlo.proto import MESSAGES


def build(message: str, /, **fields) -> bytes:
    return MESSAGES[message](**fields).SerializeToString()


F32 = build("Shape", element_type=11, dimensions=[2], layout=MESSAGES["Layout"](minor_to_major=[0]))


def instruction(id_: int, opcode: str = "negate", **fields) -> bytes:
    return build("Instruction", **{"name": b"x%d" % id_, "opcode": opcode.encode(), "id": id_, "shape": F32, **fields})


def computation(id_: int, *instructions: bytes, root: int = 1) -> bytes:
    return build("Computation", name=b"c%d" % id_, id=id_, root_id=root, instructions=list(instructions))


def module(*computations: bytes, entry: int = 1) -> bytes:
    return build("Module", name=b"m", entry_computation_id=entry, computations=list(computations))


def shaped(**fields) -> bytes:
    return module(computation(1, instruction(1, "parameter", shape=build("Shape", **fields))))


def nested(depth: int) -> bytes:
    shape = F32
    for _ in range(depth):
        shape = build("Shape", element_type=13, tuple_shapes=[shape])
    return module(computation(1, instruction(1, "parameter", shape=shape)))


def tower(height: int) -> bytes:
    """Each computation applies the one before 2^40 times."""
    big = build("Shape", element_type=2, dimensions=[2**40], layout=MESSAGES["Layout"](minor_to_major=[0]))
    comps = [computation(1, instruction(1, "parameter"), instruction(2, operand_ids=[1]), root=2)]
    for i in range(2, height):
        p = instruction(1, "parameter", shape=big)
        comps.append(
            computation(i, p, instruction(2, "map", operand_ids=[1], shape=big, called_computation_ids=[i - 1]), root=2)
        )
    return module(*comps, entry=height - 1)


def conv(**window) -> bytes:
    shape = build(
        "Shape", element_type=11, dimensions=[1, 2**30, 1], layout=MESSAGES["Layout"](minor_to_major=[2, 1, 0])
    )
    numbers = build(
        "ConvolutionDimensionNumbers",
        input_batch_dimension=0,
        input_feature_dimension=2,
        input_spatial_dimensions=[1],
        kernel_spatial_dimensions=[1],
        output_spatial_dimensions=[1],
        output_feature_dimension=2,
    )
    made = {"size": 2**30, "stride": 1, "window_dilation": 1, "base_dilation": 1, **window}
    return module(
        computation(
            1,
            instruction(1, "parameter", shape=shape),
            instruction(
                2,
                "convolution",
                shape=shape,
                operand_ids=[1, 1],
                convolution_dimension_numbers=numbers,
                window=build("Window", dimensions=[build("WindowDimension", **made)]),
                feature_group_count=1,
                batch_group_count=1,
            ),
            root=2,
        )
    )


DAMAGED = {
    "empty": b"",
    "no protobuf": b"\xff" * 100,
    "a length of 2 GB": b"\x1a\xff\xff\xff\xff\x07" + b"\x00" * 50,
    "no computation": build("Module", name=b"m"),
    "entry missing": module(computation(1, instruction(1)), entry=7),
    "root missing": module(computation(1, instruction(1), root=9)),
    "computation without instructions": module(computation(1)),
    "operand missing": module(computation(1, instruction(1, operand_ids=[5]))),
    "operand of itself": module(computation(1, instruction(1, operand_ids=[1]))),
    "operands in a circle": module(computation(1, instruction(1, operand_ids=[2]), instruction(2, operand_ids=[1]))),
    "control in a circle": module(computation(1, instruction(1, control_predecessor_ids=[1]))),
    "callee missing": module(computation(1, instruction(1, "call", called_computation_ids=[8]))),
    "calls itself": module(computation(1, instruction(1, "call", called_computation_ids=[1]))),
    "calls in a circle": module(
        computation(1, instruction(1, "call", called_computation_ids=[2])),
        computation(2, instruction(1, "call", called_computation_ids=[1])),
    ),
    "two with one id": module(computation(1, instruction(1), instruction(1))),
    "two computations with one id": module(computation(1, instruction(1)), computation(1, instruction(1))),
    "no opcode": module(computation(1, instruction(1, ""))),
    "unknown opcode": module(computation(1, instruction(1, "frobnicate"))),
    "too few operands": module(computation(1, instruction(1, "gather"))),
    "call of nothing": module(computation(1, instruction(1, "call"))),
    "conditional without branches": module(computation(1, instruction(1, "conditional"))),
    "no shape": module(computation(1, instruction(1, shape=b""))),
    "shape is no message": module(computation(1, instruction(1, shape=b"\x18\xff\xff"))),
    "unknown element type": shaped(element_type=99),
    "negative extent": shaped(element_type=11, dimensions=[-5]),
    "absurd extents": shaped(element_type=11, dimensions=[2**62] * 1000),
    "layout of another rank": shaped(element_type=11, dimensions=[3], layout=MESSAGES["Layout"](minor_to_major=[0, 1])),
    "empty buffer": shaped(element_type=34),
    "tuples in tuples": nested(5000),
    "a tower of repetitions": tower(300),
    "a million taps at a billion places": conv(stride=2, base_dilation=3),
    "no dilation": conv(base_dilation=0),
    "negative groups": module(
        computation(
            1,
            instruction(1, "parameter"),
            instruction(2, "convolution", operand_ids=[1, 1], feature_group_count=-1),
            root=2,
        )
    ),
    "dot over a missing dimension": module(
        computation(
            1,
            instruction(1, "parameter"),
            instruction(
                2,
                "dot",
                operand_ids=[1, 1],
                dot_dimension_numbers=build("DotDimensionNumbers", lhs_contracting_dimensions=[4]),
            ),
            root=2,
        )
    ),
    "dot over one dimension ten thousand times": module(
        computation(
            1,
            instruction(1, "parameter"),
            instruction(
                2,
                "dot",
                operand_ids=[1, 1],
                dot_dimension_numbers=build("DotDimensionNumbers", lhs_contracting_dimensions=[0] * 10**4),
            ),
            root=2,
        )
    ),
    "fft of a hundred thousand lengths": module(
        computation(
            1, instruction(1, "parameter"), instruction(2, "fft", operand_ids=[1], fft_length=[2**60] * 10**5), root=2
        )
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_module_is_a_clear_error_within_a_second(name):
    start = time.process_time()
    with pytest.raises(HloError) as caught:
        replay(read_bytes(DAMAGED[name]))
    assert time.process_time() - start < 1
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
            replay(read_bytes(data))
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
        tracemalloc.stop()


def test_a_long_chain_is_no_recursion():
    chain = [instruction(1, "parameter"), *[instruction(i, operand_ids=[i - 1]) for i in range(2, 50_001)]]
    assert replay(read_bytes(module(computation(1, *chain, root=50_000)))).total.flops == 2 * 49_999


def survives(data: bytes) -> None:
    start = time.process_time()
    try:
        mine = replay(read_bytes(data))
        for row in mine.instructions:
            assert row.instruction.op_name is not None
            assert mine.module.source(row.instruction)[1] is not None
    except HloError:
        pass
    assert time.process_time() - start < 1


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
