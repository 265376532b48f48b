"""What a join says of a trace that has part of a program's times, of unequal runs, and of numbers that cannot be."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

import costax
import traces
from costax import _jax
from costax.cli.app import main
from costax.errors import InputError, TraceError
from traces import DOT, FIRST, TRIPS, written

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return written(tmp_path_factory.mktemp("hlo"), "module.hlo.pb", traces.step_module())


def table(folder, *names, heading="instruction,ms"):
    return written(folder, "t.csv", "\n".join([heading, *names, ""]).encode())


def test_rates_are_of_the_instructions_with_a_time(tmp_path, module):
    found = costax.join(module, table(tmp_path, "dot.2,1"), device="h100-sxm")
    # One product of two 64 x 64 matrices in a millisecond; the fusion has another, without a time.
    assert found.total.flops_per_second == pytest.approx(DOT / 1e-3)
    assert found.hfu == pytest.approx(DOT / 1e-3 / found.peak[1])
    assert found.flops == found.analysis.executed.flops > 2 * DOT
    assert found.timed_share == pytest.approx(DOT / found.flops)
    assert found.by_scope(2)["net/layer_0"].flops_per_second == pytest.approx(DOT / 1e-3)
    shown = re.sub(r"\s+", " ", str(found))
    assert f"{DOT / found.flops:.1%} of the FLOPs have a time" in shown
    # The work inside a fusion belongs to it.
    fusion = costax.join(module, table(tmp_path, "loop_fusion.3,1"))
    assert fusion.total.flops_per_second == pytest.approx(DOT / 1e-3)


def test_utilisation_does_not_rise_when_instructions_lose_their_time(tmp_path, module):
    lines = [f"{name},{1e-6 * ns * (TRIPS if name == 'tanh.5' else 1)}" for name, ns in FIRST.items()]
    # The condition and the counter of the loop have a few FLOPs, and no time.
    whole = costax.join(module, table(tmp_path, *lines), device="h100-sxm", step=1e-3)
    assert whole.timed_share > 0.99
    assert whole.hfu == pytest.approx(whole.flops / 1e-3 / whole.peak[1])
    for left_out in range(len(lines)):
        kept = lines[:left_out] + lines[left_out + 1 :]
        part = costax.join(module, table(tmp_path, *kept), device="h100-sxm", step=1e-3)
        assert part.mfu <= whole.mfu
        name = lines[left_out].partition(",")[0]
        if name in ("dot.2", "loop_fusion.3"):
            assert part.hfu == pytest.approx(part.total.timed.flops / 1e-3 / part.peak[1])
            assert part.hfu < 0.6 * whole.hfu


def test_a_collective_is_predicted_as_long_as_its_own_kernel(tmp_path):
    """Where kernels hide it, the trace has all of its time, too."""
    done = next(line for line in traces.STEP.splitlines() if line.strip().startswith("%all-gather-done"))
    start = next(line for line in traces.STEP.splitlines() if line.strip().startswith("%all-gather-start"))
    at_once = traces.STEP.replace(f"{done}\n", "").replace(start, f"{start}\n{done}")
    path = written(tmp_path, "t.csv", traces.csv_table())
    found = [
        costax.join(
            written(tmp_path, f"{number}.hlo.pb", _jax.hlo_from_text(text)),
            path,
            device="h100-sxm",
        )
        for number, text in enumerate((traces.STEP, at_once))
    ]
    beside, after = (join.by_instruction()["all-gather-start"].predicted for join in found)
    assert beside == after > 0
    # The control: what is expected of the run knows that the loop hides it.
    assert found[0].expected_step < found[1].expected_step
    for row in found[0].rows:
        if row.bound is not None:
            assert row.predicted >= row.bound, row.name


def profile_of(times):
    """A GPU's profile of runs, each with the nanoseconds of two instructions, one after the other."""
    plane = traces.Plane("/device:GPU:0")
    known = {"hlo_module": "jit_step", "program_id": traces.PROGRAM}
    events = []
    for run, (fusion, dot) in enumerate(times):
        at = 100_000 * run
        events.append(plane.event("k", at, fusion, hlo_op="loop_fusion.3", **known))
        events.append(plane.event("l", at + fusion, dot, hlo_op="dot.2", **known))
    plane.line("Stream #1", events)
    return traces.space(plane)


def test_the_times_add_up_to_the_median_run(tmp_path, module):
    # The medians of the instructions are 1 and 1 us; two of the three runs take 10 us.
    found = costax.join(
        module, written(tmp_path, "t.xplane.pb", profile_of([(1000, 1000), (1000, 9000), (9500, 1000)]))
    )
    assert found.total.seconds == pytest.approx(10e-6)
    assert found.total.seconds == pytest.approx(found.busy.median)
    assert found.by_instruction()["dot.2"].seconds == pytest.approx(9e-6)
    assert "side by side" not in str(found)
    # The control: here they do run side by side.
    overlapping = costax.join(module, written(tmp_path, "o.xplane.pb", traces.gpu_xplane()), step=14.6e-6)
    assert overlapping.total.seconds > overlapping.busy.median
    assert "side by side" in str(overlapping)


def test_a_step_shorter_than_its_instructions_is_refused(tmp_path, module):
    profile = written(tmp_path, "t.xplane.pb", traces.gpu_xplane())
    # The longest takes 5 and 10 us; the device is busy for 10 us in the faster run.
    with pytest.raises(InputError, match=r"`all-gather-start` alone takes 7\.5 us"):
        costax.join(module, profile, step=1e-9)
    with pytest.raises(InputError, match="busy for 10 us"):
        costax.join(module, profile, step=8e-6)
    assert costax.join(module, profile, step=10e-6).seconds == 10e-6
    with pytest.raises(InputError, match="of the peak of"):
        costax.join(module, table(tmp_path, *(f"{name},1e-6" for name in FIRST)), device="h100-sxm", step=1.5e-9)


def test_two_lines_of_an_instruction_need_the_name_of_their_run(tmp_path, module):
    with pytest.raises(TraceError, match=r"two lines for `dot\.2`") as caught:
        costax.join(module, table(tmp_path, "dot.2,1", "dot.2,3"))
    assert "lines 2 and 3" in str(caught.value)
    heading = "instruction,ms,run"
    runs = costax.join(module, table(tmp_path, "dot.2,1,0", "dot.2,3,1", heading=heading))
    assert (runs.runs, runs.total.seconds) == (2, pytest.approx(2e-3))
    executions = costax.join(module, table(tmp_path, "dot.2,1,0", "dot.2,3,0", heading=heading))
    assert (executions.runs, executions.total.seconds) == (1, pytest.approx(4e-3))


@pytest.mark.parametrize(
    ("trace", "kind"),
    [("cpu_xplane", "cpu"), ("gpu_xplane", "gpu"), ("tpu_xplane", "tpu"), *((k, k) for k in ("cpu", "gpu", "tpu"))],
)
def test_a_trace_of_another_kind_of_device_is_said(trace, kind, tmp_path, module):
    contents = getattr(traces, trace)() if trace.endswith("xplane") else traces.chrome_json(trace)
    suffix = "xplane.pb" if trace.endswith("xplane") else "trace.json.gz"
    found = costax.join(module, written(tmp_path, f"t.{suffix}", contents), device="h100-sxm")
    assert found.kind == kind
    assert (f"The trace is of a {kind.upper()}, and NVIDIA H100" in str(found)) == (kind != "gpu")


def test_a_small_share_is_not_shown_as_none(tmp_path, module):
    found = costax.join(module, table(tmp_path, "dot.2,1000"), device="h100-sxm")
    assert "<0.1%" in str(found)
    assert not re.search(r"MFU +0\.0%", str(found))


@pytest.mark.parametrize(
    "words", [["predict", "{}", "--device", "h100-sxm"], ["analyze", "{}"], ["memory", "{}"], ["diff", "{}", "{}"]]
)
def test_a_profile_is_not_taken_for_one_of_its_modules(words, tmp_path):
    both = traces.gpu_xplane() + traces.space(traces.metadata(name="jit_other", program=3))
    path = str(written(tmp_path, "host.xplane.pb", both))
    done = CliRunner().invoke(main, [word.format(path) for word in words])
    assert done.exit_code == 2
    assert "a profile of 2 modules: jit_step(15), jit_other(3)" in done.output
    assert f"costax join --trace {path} --module" in done.output
    whole = (tmp_path / "host.xplane.pb").read_bytes()
    (tmp_path / "host.xplane.pb").write_bytes(whole[:-9])
    done = CliRunner().invoke(main, [word.format(path) for word in words])
    assert done.exit_code == 2
    assert "a damaged profile" in done.output
