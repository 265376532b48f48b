"""The join of a trace with its module: every format gives the same times, and each time is counted once."""

from __future__ import annotations

import gzip
import json

import pytest

import costax
import traces
from costax import _jax
from costax.errors import InputError, TraceError
from traces import DOT, FIRST, TRIPS, N, written

# What is read and joined is the same for every version of jax; test_join_here.py has its own profiles.
pytestmark = pytest.mark.once

FILES = {
    "gpu.xplane.pb": lambda: traces.gpu_xplane(),
    "gpu.xplane.pb.gz": lambda: gzip.compress(traces.gpu_xplane()),
    "tpu.xplane.pb": lambda: traces.tpu_xplane(),
    "cpu.xplane.pb": lambda: traces.cpu_xplane(),
    "gpu.trace.json.gz": lambda: traces.chrome_json("gpu"),
    "tpu.trace.json.gz": lambda: traces.chrome_json("tpu"),
    "cpu.trace.json.gz": lambda: traces.chrome_json("cpu"),
    "nsys.zip": lambda: traces.nsys_zip(),
}


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return written(tmp_path_factory.mktemp("hlo"), "module.hlo.pb", traces.step_module())


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_times(name, tmp_path, module):
    found = costax.join(module, written(tmp_path, name, FILES[name]()))
    rows = found.by_instruction()
    assert found.runs == 2
    # The second run takes twice as long: the median is 1.5 times the first.
    for instruction in ("loop_fusion.3", "dot.2"):
        assert rows[instruction].seconds == pytest.approx(1.5e-9 * FIRST[instruction])
    assert rows["tanh.5"].seconds == pytest.approx(1.5e-9 * TRIPS * FIRST["tanh.5"])
    assert rows["tanh.5"].executions == 2 * TRIPS
    # A loop has only the time in which nothing of its body runs.
    if "while.1" in rows and rows["while.1"].seconds:
        assert rows["while.1"].seconds == pytest.approx(1.5e-9 * (2000 - TRIPS * FIRST["tanh.5"]))
    assert rows["loop_fusion.3"].cost.flops == DOT
    assert rows["tanh.5"].cost.transcendentals == TRIPS * N * N
    assert found.flops == found.analysis.executed.flops
    assert found.coverage > 0.7


@pytest.mark.parametrize("name", ["gpu.xplane.pb", "tpu.xplane.pb", "cpu.xplane.pb", "nsys.zip"])
def test_a_trace_that_holds_its_module_needs_no_program(name, tmp_path):
    found = costax.join(None, written(tmp_path, name, FILES[name]()))
    assert found.name == "jit_step"
    assert found.by_instruction()["dot.2"].seconds == pytest.approx(1.5e-9 * FIRST["dot.2"])


def test_the_tables_are_sums_of_the_same_rows(tmp_path, module):
    found = costax.join(module, written(tmp_path, "t.xplane.pb", traces.gpu_xplane()))
    for by, sums in found.tables.items():
        assert sum(part.seconds for part in sums().values()) == pytest.approx(found.total.seconds), by
        assert sum(part.cost.flops for part in sums().values()) == found.flops, by
    assert found.by_scope()["net/layer_0"].cost.flops == 2 * DOT
    assert found.by_direction()["backward"].cost.flops == DOT
    assert found.by_direction()["backward"].seconds == pytest.approx(1.5e-9 * FIRST["dot.2"])
    assert found.by_primitive()["tanh"].seconds == pytest.approx(1.5e-9 * TRIPS * FIRST["tanh.5"])
    assert found.by_source()["/home/user/net.py:7"].cost.flops == 2 * DOT
    scopes = found.by_scope_and_direction()["net/layer_0"]
    assert scopes["forward"].cost.flops == scopes["backward"].cost.flops == DOT


def test_a_run_has_a_median_and_a_spread(tmp_path, module):
    found = costax.join(module, written(tmp_path, "t.xplane.pb", traces.tpu_xplane()))
    # The line of modules gives 30 us and 60 us.
    assert found.step == pytest.approx((45e-6, 30e-6, 60e-6))
    row = next(row for row in found.rows if row.name == "dot.2")
    assert row.measured.run == pytest.approx((1.5e-9 * 2000, 1e-9 * 2000, 2e-9 * 2000))
    assert row.measured.total == pytest.approx(3e-9 * 2000)


def test_an_operation_in_flight_is_not_added_to_the_others(tmp_path, module):
    found = costax.join(module, written(tmp_path, "t.xplane.pb", traces.tpu_xplane()))
    row = next(row for row in found.rows if row.name == "all-gather-start")
    assert row.measured.run.median == pytest.approx(1.5 * 10e-9)
    assert row.in_flight.median == pytest.approx(1.5 * 17_000e-9)
    own = {"loop_fusion.3": 3000, "while.1": 2000, "dot.2": 2000, "all-gather-start": 10, "all-gather-done": 40}
    assert found.total.seconds == pytest.approx(1.5e-9 * sum(own.values()))
    assert found.busy.median == pytest.approx(1.5e-9 * sum(own.values()))
    assert not found.untimed
    assert not found.waiting


def test_a_collective_beside_kernels_makes_the_sum_longer_than_the_busy_time(tmp_path, module):
    found = costax.join(module, written(tmp_path, "t.xplane.pb", traces.gpu_xplane()))
    tanh = TRIPS * FIRST["tanh.5"]
    assert found.total.seconds == pytest.approx(1.5e-9 * (sum(FIRST.values()) - FIRST["tanh.5"] + tanh))
    # In both runs the collective covers all kernels of the loop.
    assert found.busy.median == pytest.approx(1.5e-9 * (sum(FIRST.values()) - FIRST["tanh.5"]))
    assert [row.name for row in found.waiting] == ["all-gather-done"]
    assert found.joined == found.expected - 1


def test_time_without_an_instruction_is_listed(tmp_path, module):
    found = costax.join(module, written(tmp_path, "t.xplane.pb", traces.gpu_xplane()))
    assert [(item.name, item.executions) for item in found.unjoined] == [("MemcpyD2H", 1)]
    assert found.unjoined[0].seconds == pytest.approx(700e-9)
    assert "MemcpyD2H" in str(found)


def test_an_instruction_without_time_is_listed(tmp_path, module):
    lines = traces.csv_table().decode().splitlines()
    kept = "\n".join(line for line in lines if not line.startswith("dot.2"))
    found = costax.join(module, written(tmp_path, "t.csv", kept.encode()))
    assert [row.name for row in found.untimed] == ["dot.2"]
    assert found.flops == found.analysis.executed.flops
    assert "Without a time: dot.2 (dot)." in str(found)


def test_a_kernel_of_a_cuda_graph_is_joined_by_its_name(tmp_path, module):
    plane = traces.Plane("/device:GPU:0")
    known = {"hlo_module": "jit_step", "program_id": traces.PROGRAM}
    events = [
        plane.event("loop_fusion_3", 0, 3000, **known),
        plane.event("dot_2", 5000, 2000, **known),
        plane.event("tanh.5", 9000, 100, hlo_op="command_buffer::tanh.5", **known),
    ]
    plane.line("Stream #1", events)
    found = costax.join(module, written(tmp_path, "t.xplane.pb", traces.space(plane)))
    assert found.by_instruction()["loop_fusion.3"].seconds == pytest.approx(3e-6)
    assert found.by_instruction()["dot.2"].seconds == pytest.approx(2e-6)
    assert found.by_instruction()["tanh.5"].seconds == pytest.approx(1e-7)
    assert not found.unjoined


def test_a_kernel_named_by_what_is_inside_a_fusion_is_the_fusion(tmp_path, module):
    lines = traces.csv_table().replace(b"loop_fusion.3", b"dot.inner")
    found = costax.join(module, written(tmp_path, "t.csv", lines))
    assert found.by_instruction()["loop_fusion.3"].seconds == pytest.approx(1e-9 * FIRST["loop_fusion.3"])
    assert not found.untimed


def test_devices_are_samples_of_the_same_run(tmp_path, module):
    found = costax.join(module, written(tmp_path, "t.xplane.pb", traces.gpu_xplane(devices=4)))
    assert (found.runs, found.devices) == (8, 4)
    assert found.by_instruction()["dot.2"].seconds == pytest.approx(1.5e-9 * FIRST["dot.2"])
    assert found.by_instruction()["dot.2"].seconds_in_all == pytest.approx(4 * 3e-9 * FIRST["dot.2"])


def test_processes_are_combined(tmp_path, module):
    files = [
        written(tmp_path, "a.xplane.pb", traces.gpu_xplane()),
        # Another process may have compiled more programs before: its numbers differ.
        written(tmp_path, "b.xplane.pb", traces.gpu_xplane(program=21)),
    ]
    found = costax.join(module, files)
    assert (found.processes, found.runs, found.devices) == (2, 4, 2)
    assert not found.others
    combined = costax.join(None, written(tmp_path, "c.zip", traces.nsys_zip(tables=3)))
    assert (combined.processes, combined.runs, combined.devices) == (3, 6, 3)


def test_a_folder_of_the_profiler_gives_its_newest_profile(tmp_path, module):
    log = tmp_path / "log"
    written(log, "plugins/profile/2026_01_01_00_00_00/host.xplane.pb", b"")
    written(log, "plugins/profile/2026_01_02_00_00_00/host0.xplane.pb", traces.gpu_xplane())
    written(log, "plugins/profile/2026_01_02_00_00_00/host1.xplane.pb", traces.gpu_xplane())
    found = costax.join(module, log)
    assert (found.processes, found.runs) == (2, 4)
    assert "2 profiles" in str(found)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_the_versions_of_nsys_jax_are_read(version, tmp_path, module):
    found = costax.join(
        module, written(tmp_path, "nvtx_gpu_proj_trace/trace.parquet", traces.nsys_table(version)).parents[1]
    )
    assert found.runs == 2
    assert found.step == pytest.approx((45e-6, 30e-6, 60e-6))
    assert found.by_instruction()["tanh.5"].seconds == pytest.approx(1.5e-9 * TRIPS * FIRST["tanh.5"])


@pytest.mark.parametrize(
    ("unit", "scale"),
    [("nanoseconds", 1.0), ("ns_median", 1.0), ("duration_us", 1e-3), ("time (ms)", 1e-6), ("seconds", 1e-9)],
)
def test_a_table_has_the_unit_of_its_heading(unit, scale, tmp_path, module):
    found = costax.join(module, written(tmp_path, "t.csv", traces.csv_table(unit, scale)))
    assert found.by_instruction()["dot.2"].seconds == pytest.approx(1e-9 * FIRST["dot.2"])
    assert found.step is None


def test_a_step_measured_otherwise_is_what_utilisation_divides_by(tmp_path, module):
    path = written(tmp_path, "t.csv", traces.csv_table())
    found = costax.join(module, path, step=1e-3)
    assert found.seconds == 1e-3
    with pytest.raises(InputError, match="positive number of seconds"):
        costax.join(module, path, step=-1.0)


def test_modules_of_a_trace_are_told_apart_by_the_number_of_their_program(tmp_path):
    """Three programs of one name with the same instruction names, as jit makes them for three shapes."""
    small = traces.step_module()
    large = _jax.hlo_from_text(traces.STEP.replace("64,64", "96,96").replace("128,64", "192,96"))
    first, second = traces.gpu_xplane(hlo=small), traces.gpu_xplane(hlo=large, program=16)
    both = written(tmp_path, "t.xplane.pb", first + second)
    for program, size in (("jit_step(15)", 64), ("jit_step(16)", 96)):
        found = costax.join(None, both, module=program)
        assert found.runs == 2
        assert found.by_instruction()["dot.2"].cost.flops == 2 * size**3
        assert len(found.others) == 1
    written(tmp_path, "dump/module_0015.jit_step.gpu_after_optimizations.hlo.pb", small)
    written(tmp_path, "dump/module_0016.jit_step.gpu_after_optimizations.hlo.pb", large)
    chosen = costax.join(tmp_path / "dump", written(tmp_path, "u.xplane.pb", second))
    assert chosen.by_instruction()["dot.2"].cost.flops == 2 * 96**3


def test_what_xla_runs_to_tune_a_kernel_is_not_the_program(tmp_path, module):
    plane = traces.Plane("/device:GPU:0")
    tuned = [plane.event("k", 50 * i, 40, hlo_op="dot.2", hlo_module="dot.2") for i in range(9000)]
    plane.line("Stream #1", tuned, start_ns=10**6)
    contents = traces.space(plane) + traces.gpu_xplane()
    found = costax.join(module, written(tmp_path, "t.xplane.pb", contents))
    assert found.runs == 2
    assert [other.name.name for other in found.others] == ["dot.2"]
    # The module may have another name than in the trace, if its instructions fit.
    path = written(tmp_path, "named.hlo.pb", _jax.hlo_from_text(traces.STEP.replace("jit_step", "jit_other")))
    assert costax.join(path, written(tmp_path, "u.xplane.pb", traces.gpu_xplane())).runs == 2


def test_modules_that_cannot_be_told_apart_are_an_error(tmp_path):
    for number, size in ((1, 64), (2, 96), (3, 128)):
        text = traces.STEP.replace("64,64", f"{size},{size}").replace("128,64", f"{2 * size},{size}")
        written(tmp_path, f"dump/module_{number:04}.jit_step.gpu_after_optimizations.hlo.pb", _jax.hlo_from_text(text))
    with pytest.raises(TraceError, match="3 different modules fit"):
        costax.join(tmp_path / "dump", written(tmp_path, "t.trace.json.gz", traces.chrome_json("gpu")))


def test_a_trace_of_another_program_is_refused(tmp_path, module):
    other = (
        traces.STEP.replace("loop_fusion.3", "input_fusion.8").replace("dot.2", "dot.44").replace("tanh.5", "tanh.6")
    )

    path = written(tmp_path, "other.hlo.pb", _jax.hlo_from_text(other))
    with pytest.raises(TraceError, match="25% of the instructions") as caught:
        costax.join(path, written(tmp_path, "t.trace.json.gz", traces.chrome_json("gpu")))
    assert "only if 50% of the instructions agree" in str(caught.value)
    assert "dot.2" in str(caught.value)


def test_a_run_at_the_end_of_the_trace_that_was_cut_off_is_left_out(tmp_path, module):
    plane = traces.Plane("/device:GPU:0")
    known = {"hlo_module": "jit_step", "program_id": traces.PROGRAM}
    events = []
    for run in range(3):
        at = 100_000 * run
        events.append(plane.event("k", at, 3000, hlo_op="loop_fusion.3", **known))
        if run < 2:
            events.append(plane.event("l", at + 5000, 2000, hlo_op="dot.2", **known))
    plane.line("Stream #1", events)
    found = costax.join(module, written(tmp_path, "t.xplane.pb", traces.space(plane)))
    assert found.runs == 2
    assert found.by_instruction()["loop_fusion.3"].executions == 3
    assert "1 of 3 runs" in str(found)


def test_names_that_agree_by_chance_do_not_make_it_the_program(tmp_path):
    # Three of four names agree, and the fourth has most of the time.
    events = [
        {"ph": "X", "pid": 1, "tid": 1, "ts": at, "dur": us, "name": name, "args": {"hlo_op": name, "hlo_module": "m"}}
        for at, (name, us) in enumerate((("loop_fusion.3", 1), ("tanh.5", 1), ("dot.2", 1), ("convolution.9", 90)))
    ]
    trace = written(tmp_path, "host.trace.json", json.dumps({"traceEvents": events}).encode())
    program = written(tmp_path, "program.hlo.pb", traces.step_module())
    with pytest.raises(TraceError, match="3% of the instructions"):
        costax.join(program, trace)
    # The trace embeds its module: instructions of the same names and other shapes are other instructions.
    larger = written(
        tmp_path,
        "larger.hlo.pb",
        _jax.hlo_from_text(traces.STEP.replace("128", "64").replace("[64", "[32").replace("64]", "32]")),
    )
    profile = written(tmp_path, "host.xplane.pb", traces.gpu_xplane())
    assert costax.join(program, profile).coverage > 0
    with pytest.raises(TraceError, match="the names agree, and the instructions do not"):
        costax.join(larger, profile)
