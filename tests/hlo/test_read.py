"""Reading modules: the records say what XLA's text says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import hlo_samples
from costax import _jax
from costax.hlo import (
    HloError,
    Module,
    read_bytes,
    read_file,
    read_text,
    replay_module,
    replica_groups,
)
from costax.hlo.proto import MESSAGES
from hlo_oracle import from_text, one, reducer
from hlo_samples import SPECS, convolved, module_bytes, scanned


def all_instructions(module: Module):
    return [x for c in module.computations.values() for x in c.instructions]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("fn", SPECS)
def test_every_instruction_of_the_text_is_there_with_shape_opcode_and_operands(fn, compiled):
    data = module_bytes(fn, compiled)
    text = _jax.hlo_text(data)
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
        assert Path(file).name == Path(hlo_samples.__file__).name
        assert "jnp.tanh(c @ w)" in Path(hlo_samples.__file__).read_text().splitlines()[line - 1]
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


def mesh_groups(sizes, named, device_ids=(), reshape=(), transpose=()):
    axes = [MESSAGES["MeshAxis"](name=str(i).encode(), size=size) for i, size in enumerate(sizes)]
    order = MESSAGES["DeviceOrder"](reshape=reshape, transpose=transpose)
    mesh = MESSAGES["Mesh"](axes=axes, device_ids=device_ids, order=order)
    raw = MESSAGES["MeshGroups"](mesh=mesh, axes=[MESSAGES["MeshAxisPart"](index=i) for i in named])
    return replica_groups.of_mesh(raw, "here")


def test_the_devices_of_a_mesh_may_stand_in_another_order():
    by_rows = np.arange(8).reshape(4, 2)
    assert mesh_groups((4, 2), (0,)) == tuple(map(tuple, by_rows.T.tolist()))
    # `mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}`: the devices are 0, 4, 1, 5, 2, 6, 3, 7.
    devices = np.arange(8).reshape(2, 4).T.reshape(4, 2)
    expected = tuple(map(tuple, devices.T.tolist()))
    assert expected == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert mesh_groups((4, 2), (0,), reshape=(2, 4), transpose=(1, 0)) == expected
    assert mesh_groups((4, 2), (0,), device_ids=devices.flatten().tolist()) == expected


@pytest.mark.parametrize(
    "order",
    [
        {"device_ids": [0, 1, 2, 3, 4, 5, 6, 6]},
        {"device_ids": [0, 1]},
        {"reshape": [2, 3], "transpose": [1, 0]},
        {"reshape": [2, 4], "transpose": [1, 1]},
        {"reshape": [2**40, 2**40]},
    ],
)
def test_a_mesh_with_other_devices_is_damaged(order):
    with pytest.raises(HloError, match="mesh of 8 devices"):
        mesh_groups((4, 2), (0,), **order)


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
    text = _jax.hlo_text(data)
    (tmp_path / "module.txt").write_text(text)
    assert replay_module(read_file(tmp_path / "module.txt")).total == replay_module(read_bytes(data)).total
    with pytest.raises(HloError, match="cannot be read"):
        read_file(tmp_path / "nowhere.pb")


def test_text_that_makes_xla_abort_is_an_error_and_not_the_end():
    with pytest.raises(HloError, match=r"IsOpaque|died"):
        read_text("HloModule m\nENTRY e {\n  p = opaque[] parameter(0)\n  ROOT r = opaque[] copy(p)\n}\n")
    with pytest.raises(HloError, match="Unknown opcode"):
        read_text("HloModule m\nENTRY e {\n  ROOT r = f32[] frobnicate()\n}\n")
