"""Reading modules: the records say what XLA's text says, and damaged files end in a clear error, soon."""

from __future__ import annotations

import functools
import random
import re
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from hlo_oracle import from_text, one, reducer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import lax

from costax import _jax
from costax.hlo import HloError, Module, read_bytes, read_file, read_text, replay
from costax.hlo.schema import MESSAGES


def scanned(w, xs):
    def body(c, x):
        return jnp.tanh(c @ w) + x, c.sum()

    with jax.named_scope("outer"):
        return lax.scan(body, xs[0], xs)


def convolved(x, w):
    y = lax.conv_general_dilated(x, w, (2, 1), ((1, 2), (0, 3)), (1, 2), (2, 1), feature_group_count=2)
    return lax.reduce_window(y, 0.0, lax.add, (1, 1, 2, 3), (1, 1, 2, 1), "SAME")


SPECS = {
    scanned: (jax.ShapeDtypeStruct((8, 8), jnp.float32), jax.ShapeDtypeStruct((7, 4, 8), jnp.float32)),
    convolved: (jax.ShapeDtypeStruct((2, 4, 9, 9), jnp.float32), jax.ShapeDtypeStruct((6, 2, 3, 3), jnp.float32)),
}


@functools.cache
def stage(fn, compiled):
    lowered = jax.jit(fn).lower(*SPECS[fn])
    return lowered.compile() if compiled else lowered


@functools.cache
def module_bytes(fn, compiled=True) -> bytes:
    return _jax.hlo_of(stage(fn, compiled))


def all_instructions(module: Module):
    return [x for c in module.computations.values() for x in c.instructions]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("fn", SPECS)
def test_every_instruction_of_the_text_is_there_with_shape_opcode_and_operands(fn, compiled):
    data = module_bytes(fn, compiled)
    text = _jax._hlo().HloModule.from_serialized_hlo_module_proto(data).to_string()
    line = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([a-z][\w-]*)\((.*?)\)", re.M)
    printed = {}
    for name, shape, opcode, operands in line.findall(text):
        bare = re.sub(r"\{[^}]*\}|/\*.*?\*/|\s", "", shape).replace("pred", "bool")
        bare = re.sub(r"\bs(\d+)", r"i\1", bare)
        printed[name] = (
            bare,
            opcode,
            [] if opcode in ("parameter", "constant") else re.findall(r"%([\w.-]+)", operands),
        )
    read = {
        x.name: (str(x.shape).replace(" ", ""), x.opcode, [o.name for o in x.operands])
        for x in all_instructions(read_bytes(data))
    }
    assert read == printed


def test_names_and_source_lines_survive_from_python_to_the_instruction():
    for compiled in (False, True):
        module = read_bytes(module_bytes(scanned, compiled))
        tanh = next(x for x in all_instructions(module) if x.opcode == "tanh")
        assert tanh.op_name.endswith("tanh")
        file, line = module.source(tanh)
        assert Path(file).name == Path(__file__).name
        assert "jnp.tanh(c @ w)" in Path(__file__).read_text().splitlines()[line - 1]
        frame_id = tanh.metadata.stack_frame_id
        if frame_id:
            assert module.stack(frame_id)[0] == module.frame(frame_id)
    assert "outer" in next(x.op_name for x in all_instructions(module) if x.opcode == "tanh")


def test_an_unknown_frame_has_no_source():
    module = read_bytes(module_bytes(scanned))
    assert module.frame(0) is None
    assert module.frame(10**9) is None
    assert module.stack(-1) == []


def test_the_trip_count_that_the_compiler_proved_is_read():
    module = read_bytes(module_bytes(scanned))
    assert [x.known_trip_count for x in all_instructions(module) if x.opcode == "while"] == [7]
    lowered = read_bytes(module_bytes(scanned, False))
    assert [x.known_trip_count for x in all_instructions(lowered) if x.opcode == "while"] == [None]


def test_windows_and_dimension_numbers_are_those_of_the_program():
    module = read_bytes(module_bytes(convolved, False))
    conv = next(x for x in all_instructions(module) if x.opcode == "convolution")
    assert [tuple(w) for w in conv.window] == [(3, 2, 1, 2, 2, 1), (3, 1, 0, 3, 1, 2)]
    d = conv.convolution_dimensions
    assert (d.input_batch, d.input_feature, d.input_spatial) == (0, 1, (2, 3))
    assert (d.kernel_output_feature, d.kernel_input_feature, d.kernel_spatial) == (0, 1, (2, 3))
    assert (d.output_batch, d.output_feature, d.output_spatial) == (0, 1, (2, 3))
    assert (conv.feature_group_count, conv.batch_group_count) == (2, 1)


def test_attributes_of_other_opcodes():
    def root(line: str, *parameters: str, before: str = ""):
        return read_bytes(one(line, *parameters, before=before)).entry.root

    dot = root(
        "f32[2,3,5] dot(p0, p1), lhs_batch_dims={0}, rhs_batch_dims={0}, "
        "lhs_contracting_dims={2}, rhs_contracting_dims={1}",
        "f32[2,3,4]",
        "f32[2,4,5]",
    )
    assert dot.dot_dimensions == ((2,), (1,), (0,), (0,))
    assert root("f32[2] slice(p0), slice={[1:6:3]}", "f32[9]").slices == ((1, 6, 3),)
    call = root('f32[2] custom-call(p0), custom_call_target="lapack", backend_config="abc"', "f32[2]")
    assert (call.custom_call_target, call.backend_config) == ("lapack", b"abc")
    assert root("c64[8] fft(p0), fft_type=FFT, fft_length={8}", "c64[8]").fft_length == (8,)
    reduced = root(
        "f32[9] all-reduce(p0), channel_id=3, replica_groups={{0,1},{2,3}}, to_apply=c", "f32[9]", before=reducer()
    )
    assert (reduced.channel_id, reduced.replica_groups) == (3, ((0, 1), (2, 3)))
    assert [c.name for c in reduced.called] == ["c"]
    permuted = root("f32[9] collective-permute(p0), source_target_pairs={{0,1},{1,0}}", "f32[9]")
    assert permuted.source_target_pairs == ((0, 1), (1, 0))
    assert root("f32[9] transpose(p0), dimensions={0}", "f32[9]").dimensions == (0,)
    layout = root("f32[4,9]{0,1:T(8,128)S(5)} negate(p0)", "f32[4,9]").shape.layout
    assert layout is not None
    assert (layout.minor_to_major, layout.tiles, layout.memory_space) == ((0, 1), ((8, 128),), 5)


def test_users_are_listed_once_and_control_edges_are_kept():
    module = read_bytes(
        from_text(
            "ENTRY e {\n  a = f32[2] parameter(0)\n  b = f32[2] add(a, a)\n"
            "  c = f32[2] negate(a), control-predecessors={b}\n  ROOT d = f32[2] copy(a)\n}\n"
        )
    )
    a, b, c, d = (next(x for x in module.entry.instructions if x.name == n) for n in "abcd")
    assert a.users == [b, c, d]
    assert c.control_predecessors == (b,)
    assert b.operand_ids == (a.id, a.id)


def test_files_are_told_apart_by_what_they_hold(tmp_path):
    data = module_bytes(scanned)
    names = [x.name for x in all_instructions(read_bytes(data))]

    def wrapped(inner: bytes) -> bytes:
        size = len(inner)
        varint = bytearray()
        while size > 127:
            varint.append(size & 127 | 128)
            size >>= 7
        return b"\x0a" + bytes([*varint, size]) + inner

    files = {"module.pb": data, "module.hlo.pb": wrapped(data), "snapshot.pb": wrapped(wrapped(data))}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert [x.name for x in all_instructions(read_file(tmp_path / name))] == names
    text = _jax._hlo().HloModule.from_serialized_hlo_module_proto(data).to_string()
    (tmp_path / "module.txt").write_text(text)
    assert replay(read_file(tmp_path / "module.txt")).total == replay(read_bytes(data)).total
    with pytest.raises(HloError, match="cannot be read"):
        read_file(tmp_path / "nowhere.pb")


def test_text_that_makes_xla_abort_is_an_error_and_not_the_end():
    with pytest.raises(HloError, match=r"IsOpaque|died"):
        read_text("HloModule m\nENTRY e {\n  p = opaque[] parameter(0)\n  ROOT r = opaque[] copy(p)\n}\n")
    with pytest.raises(HloError, match="Unknown opcode"):
        read_text("HloModule m\nENTRY e {\n  ROOT r = f32[] frobnicate()\n}\n")


# Damage.


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
