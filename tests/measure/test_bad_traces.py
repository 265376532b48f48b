"""Traces that are damaged, hostile or empty: one message each, and no more memory than the file is worth."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import subprocess
import sys
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import costax
import traces
from costax.errors import CostaxError, HloError, InputError, TraceError
from costax.measure.traces import read_traces
from traces import field, varint, written

pytestmark = pytest.mark.once


def json_trace(**changes):
    event = {
        "ph": "X",
        "pid": 1,
        "tid": 1,
        "ts": 1.0,
        "dur": 2.0,
        "name": "dot.2",
        "args": {"hlo_op": "dot.2"},
        **changes,
    }
    return json.dumps({"traceEvents": [event]}).encode()


def plane_of(event: bytes, names: bytes = b"") -> bytes:
    line = field(2, "XLA Ops") + field(4, event)
    return field(1, field(2, "/device:TPU:0") + field(3, line) + names)


def large(name: str, size: int = 2**26 + 1, count: int = 1, more: dict[str, bytes] | None = None) -> bytes:
    """A zip whose files unpack to much more than they take."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for i in range(count):
            archive.writestr(name.format(i), bytes(size))
        for path, contents in (more or {}).items():
            archive.writestr(path, contents)
    return file.getvalue()


def lying_zip() -> bytes:
    """A zip that claims 2 GiB for a file of some bytes."""
    contents = bytearray(traces.zipped({"host.xplane.pb": b"abc" * 100}))
    place = contents.rindex(b"PK\x01\x02")
    struct.pack_into("<I", contents, place + 24, 2**31 - 5)
    return bytes(contents)


# A function makes what takes long, so that only the test of it does.
BAD = {
    "an empty file": ("t.xplane.pb", b"", "The file is empty"),
    "no profile": ("t.xplane.pb", b"\x01\x02\x03" * 40, "not an xplane profile, or it is cut off"),
    "another proto": ("t.xplane.pb", field(9, b"abc"), "no plane"),
    "an event that claims 2 GiB": ("t.xplane.pb", field(1, field(2, "p"))[:-1] + varint(2**31 - 1), "cut off"),
    "a length of 2 GiB": ("t.xplane.pb", b"\x0a" + varint(2**31 - 1) + b"abc", "cut off"),
    "an event without a name": ("t.xplane.pb", plane_of(field(1, 77) + field(3, 5)), "unknown name 77"),
    "a time that no trace has": (
        "t.xplane.pb",
        plane_of(field(1, 1) + field(3, -5), field(4, field(1, 1) + field(2, field(2, "dot.2")))),
        "lasts -5 ps",
    ),
    "an empty profile": ("t.xplane.pb", field(1, field(2, "/host:CPU")), "no event of an HLO instruction"),
    "cut off gzip": ("t.trace.json.gz", traces.chrome_json("cpu")[:-40], "damaged or cut off"),
    "cut off json": ("t.trace.json", gzip.decompress(traces.chrome_json("cpu"))[:-40], "not JSON, or it is cut off"),
    "json of something else": ("t.trace.json", b'{"a": 1}', "no list `traceEvents`"),
    "a time that is no number": ("t.trace.json", json_trace(ts="now"), "not a number of microseconds"),
    "an endless time": ("t.trace.json", b'{"traceEvents": [{"ph": "X", "ts": 1e999, "dur": 1}]}', "inf microseconds"),
    "a negative duration": ("t.trace.json", json_trace(dur=-1.0), "lasts -1000000 ps"),
    "deep json": ("t.trace.json", b"[" * 100_000, "not JSON"),
    "no instruction": ("t.csv", b"kernel,ns\na,1\n", "No column of the table names the instruction"),
    "a clock without a unit": ("t.csv", b"instruction,time\ndot.2,7\n", "a time with its unit"),
    "no time": ("t.csv", b"instruction,ns\ndot.2,fast\n", "'fast' is not a time"),
    "a negative time": ("t.csv", b"instruction,ns\ndot.2,-5\n", "'-5' is not a time"),
    "a time that is nan": ("t.csv", b"instruction,ns\ndot.2,nan\n", "'nan' is not a time"),
    "a short line": ("t.csv", b"instruction,ns,run\ndot.2,5\n", "2 values, the heading 3"),
    "a zip without a trace": ("t.zip", traces.zipped({"a.txt": b"a"}), "no trace in it"),
    "no zip": ("t.zip", b"PK\x03\x04abc", "not a zip, or it is cut off"),
    "a cut off zip": ("t.zip", traces.nsys_zip()[:-200], "not a zip, or it is cut off"),
    "a path that leads outside": ("t.zip", traces.zipped({"../a.xplane.pb": b"a"}), "leads outside"),
    "an absolute path": ("t.zip", traces.zipped({"/etc/a.xplane.pb": b"a"}), "leads outside"),
    "a path of windows": ("t.zip", traces.zipped({"..\\a.xplane.pb": b"a"}), "leads outside"),
    "a zip that unpacks to too much": (
        "t.zip",
        lambda: large("host.xplane.pb"),
        "unpacks to more than 67,108,864 bytes",
    ),
    "a zip that claims 2 GiB": ("t.zip", lying_zip(), "unpacks to more than"),
    "many files that unpack to too much": (
        "t.zip",
        lambda: large("module_000{}.a.after_optimizations.hlo.pb", 2**25, 3, {"host.xplane.pb": traces.tpu_xplane()}),
        "unpacks to more than",
    ),
    "gzip that unpacks to too much": (
        "t.pb.gz",
        lambda: gzip.compress(bytes(2**26 + 1), 1),
        "unpacks to more than 67,108,864",
    ),
    "no parquet": ("t.zip", traces.zipped({"nvtx_gpu_proj_trace/trace.parquet": b"PAR1abc"}), "not parquet"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_trace_is_one_clear_error(name, tmp_path):
    file, contents, message = BAD[name]
    path = written(tmp_path, file, contents() if callable(contents) else contents)
    with pytest.raises(TraceError, match=message) as caught:
        costax.join(None, path)
    assert caught.value.why
    assert caught.value.cure
    assert str(caught.value).isprintable() or "\n" in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_folder_without_a_trace_and_a_path_that_is_none_are_errors(tmp_path):
    with pytest.raises(TraceError, match="no trace in it"):
        costax.join(None, tmp_path)
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        costax.join(None, tmp_path / "none")
    with pytest.raises(TraceError, match="neither a file nor a folder"):
        costax.join(None, "/dev/zero")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    outside = written(tmp_path, "outside.xplane.pb", traces.gpu_xplane())
    inside = tmp_path / "log"
    inside.mkdir()
    (inside / "a.xplane.pb").symlink_to(outside)
    with pytest.raises(TraceError, match="no trace in it"):
        costax.join(None, inside)


def test_a_trace_without_hlo_needs_the_program(tmp_path):
    with pytest.raises(TraceError, match="holds no HLO module"):
        costax.join(None, written(tmp_path, "t.trace.json.gz", traces.chrome_json("gpu")))


def test_a_module_that_is_not_there_is_named_with_those_that_are(tmp_path):
    path = written(tmp_path, "t.xplane.pb", traces.gpu_xplane())
    with pytest.raises(InputError, match="no module 'other'") as caught:
        costax.join(None, path, module="other")
    assert "jit_step(15)" in str(caught.value)
    with pytest.raises(InputError, match="no optimised module"):
        costax.join(tmp_path, path)
    with pytest.raises(InputError, match="type int cannot be joined"):
        costax.join(3, path)


def test_a_damaged_module_inside_a_trace_is_an_error_of_the_module(tmp_path):
    plane = traces.metadata(hlo=b"\x0a\x03abc")
    contents = traces.space(plane) + traces.gpu_xplane()[len(traces.space(traces.metadata())) :]
    with pytest.raises(HloError, match="not an HLO module"):
        costax.join(None, written(tmp_path, "t.xplane.pb", contents))


def test_tables_and_clocks_are_not_mixed(tmp_path):
    files = [written(tmp_path, "a.csv", traces.csv_table()), written(tmp_path, "b.xplane.pb", traces.gpu_xplane())]
    with pytest.raises(TraceError, match="cannot be combined"):
        read_traces(files)


def test_ranges_that_hold_themselves_are_an_error(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = {"Name": ["TSL:Thunk:#hlo_op=a#", "TSL:X:#a=1#"], "RangeId": [1, 2], "ParentId": [2, 2], "TID": [1, 1]}
    table = pyarrow.table({**rows, "Projected Start": [0, 0], "Projected Duration": [5, 5]})
    path = tmp_path / "nvtx_gpu_proj_trace" / "trace.parquet"
    path.parent.mkdir()
    parquet.write_table(table, path)
    with pytest.raises(TraceError, match="inside itself"):
        read_traces([tmp_path])
    parquet.write_table(table.drop_columns("ParentId"), path)
    with pytest.raises(TraceError, match="no column ParentId"):
        read_traces([tmp_path])


@pytest.mark.parametrize("name", ["gpu", "tpu", "cpu"])
def test_a_profile_that_is_cut_off_anywhere_is_an_error_or_has_less(name, tmp_path):
    contents = getattr(traces, f"{name}_xplane")()
    path = tmp_path / "t.xplane.pb"
    whole = len(read_traces([written(tmp_path, "whole.xplane.pb", contents)]).events)
    for length in range(1, len(contents), 97):
        path.write_bytes(contents[:length])
        try:
            found = read_traces([path])
        except TraceError:
            continue
        # Only between two planes does a prefix decode.
        assert len(found.events) <= whole


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_bytes_never_end_in_another_error(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(["gpu", "tpu", "cpu"]))
    contents = bytearray(getattr(traces, f"{kind}_xplane")())
    for _ in range(data.draw(st.integers(1, 4))):
        contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.xplane.pb"
    path.write_bytes(contents)
    try:
        found = costax.join(None, path)
    except CostaxError:
        return
    assert found.total.seconds >= 0
    str(found)


_BOMBS = {
    # A million events of two bytes each, and as many names, planes and statistics.
    "events": lambda: field(1, field(2, "/device:TPU:0") + field(3, field(2, "XLA Ops") + b"\x22\x00" * 10**6)),
    "names": lambda: field(1, field(2, "/device:TPU:0") + b"\x22\x00" * 10**6),
    "planes": lambda: b"\x0a\x00" * 10**6,
}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of memory is read as Linux gives it")
@pytest.mark.parametrize("name", _BOMBS)
def test_small_messages_by_the_million_take_bounded_memory(name, tmp_path):
    path = written(tmp_path, "t.xplane.pb", _BOMBS[name]())
    # Not `ru_maxrss`, which a process inherits from the one that started it.
    program = (
        "from pathlib import Path\nfrom costax.measure.traces import read_traces\n"
        f"try: read_traces([{str(path)!r}])\nexcept ValueError: pass\n"
        "print(Path('/proc/self/status').read_text())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert int(kibibytes) < 2**20
