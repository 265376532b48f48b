"""Overlap of collectives with the computation that XLA's schedule has between their start and their end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from costax import _jax
from costax.compare.ahead_of_time import machine
from costax.hlo import read_bytes
from costax.hlo.schedule import Schedule
from costax.performance.kernels import CollectiveWork, Kernel, SchedulePlace
from costax.performance.overlap import between, hidden_seconds
from costax.performance.roofline import KernelTime, Timing

# The result is the same for every version of jax.
pytestmark = pytest.mark.once


def part(seconds, start, done=None, *, collective=False, around=(), times=1, computation=1):
    """A kernel that takes `seconds` and starts as number `start` of a computation."""
    place = SchedulePlace(computation, start, start if done is None else done, times)
    work = CollectiveWork("all-gather", 8, 8) if collective else None
    kernel = Kernel("k", (), "", collective=work, times=times, places=(*around, place))
    return KernelTime(kernel, Timing(seconds, seconds, seconds, {}, 0.0))


def test_what_runs_between_hides_a_collective():
    parts = [part(5.0, 0, 3, collective=True), part(2.0, 1), part(1.0, 2), part(9.0, 4)]
    assert hidden_seconds(parts) == [3.0, 0.0, 0.0, 0.0]
    assert between(parts, 0) == 3.0


def test_more_computation_than_needed_hides_all_of_it():
    parts = [part(5.0, 0, 2, collective=True), part(8.0, 1)]
    assert hidden_seconds(parts) == [5.0, 0.0]
    assert between(parts, 0) == 8.0


def test_a_collective_of_one_instruction_is_exposed():
    parts = [part(4.0, 0), part(5.0, 1, collective=True), part(2.0, 2)]
    assert hidden_seconds(parts) == [0.0, 0.0, 0.0]
    assert between(parts, 1) == 0.0


def test_two_collectives_share_the_links_and_the_computation():
    # Both start at 0; the links are busy until 3 and 3 + 4, and 5 seconds of computation run meanwhile.
    parts = [part(3.0, 0, 3, collective=True), part(4.0, 1, 4, collective=True), part(5.0, 2)]
    hidden = hidden_seconds(parts)
    assert hidden == [3.0, 2.0, 0.0]
    # Time of the device: 5 of computation, and 2 of waiting.
    assert sum(x.timing.expected for x in parts) - sum(hidden) == 7.0


def test_waiting_for_the_first_finishes_no_more_than_the_first():
    # The device waits until 6 for the first; the second then runs alone for 2.
    parts = [part(6.0, 0, 2, collective=True), part(1.0, 1), part(2.0, 3, 4, collective=True)]
    assert hidden_seconds(parts) == [1.0, 0.0, 0.0]


def test_a_loop_between_hides_with_all_of_its_iterations():
    around = (SchedulePlace(1, 1, 1, 1),)
    body = part(0.5, 0, computation=2, times=6, around=around)
    parts = [part(5.0, 0, 2, collective=True), body]
    assert hidden_seconds(parts) == [3.0, 0.0]
    assert between(parts, 0) == 3.0


def test_what_is_hidden_in_a_loop_is_no_time_around_it():
    around = (SchedulePlace(1, 1, 1, 1),)
    inner = part(1.0, 0, 2, collective=True, computation=2, times=4, around=around)
    work = part(1.0, 1, computation=2, times=4, around=around)
    # The loop takes four seconds: its collectives are hidden.
    parts = [part(5.0, 0, 2, collective=True), inner, work]
    assert hidden_seconds(parts) == [4.0, 1.0, 0.0]


def test_without_a_schedule_nothing_overlaps():
    gather = part(5.0, 0, 2, collective=True)
    parts = [replace(x, kernel=replace(x.kernel, places=())) for x in (gather, part(9.0, 1))]
    assert hidden_seconds(parts) == [0.0, 0.0]


MODULE = """HloModule m, is_scheduled=SCHEDULED, num_partitions=4
gathering {
  q = f32[4,32] parameter(0)
  ROOT g = f32[16,32] all-gather(q), channel_id=2, GROUPS
}
ENTRY e {
  x = f32[16,16] parameter(0)
  w = f32[4,32] parameter(1)
  START
  early = f32[16,16] dot(x, x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  bits = f32[256] bitcast(early)
  DONE
  late = f32[16,32] dot(early, all), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT t = (f32[256], f32[16,32]) tuple(bits, late)
}
"""
GROUPS = "replica_groups={{0,1,2,3}}, dimensions={0}, use_global_device_ids=true"
ASYNCHRONOUS = {
    "START": f"start = (f32[4,32], f32[16,32]) all-gather-start(w), channel_id=1, {GROUPS}",
    "DONE": "all = f32[16,32] all-gather-done(start)",
}
GENERIC = {
    "START": "start = ((f32[4,32]), f32[16,32], u32[]) async-start(w), calls=gathering",
    "DONE": "all = f32[16,32] async-done(start)",
}
SYNCHRONOUS = {"START": f"all = f32[16,32] all-gather(w), channel_id=1, {GROUPS}", "DONE": ""}


def found_between(lines, *, scheduled=True):
    text = MODULE.replace("SCHEDULED", str(scheduled).lower()).replace("GROUPS", GROUPS)
    for key, line in lines.items():
        text = text.replace(key, line)
    module = read_bytes(_jax.hlo_from_text(text))
    every = {x.opcode: x for c in module.computations.values() for x in c.instructions}
    return Schedule(module).between(every.get("all-gather-start") or every["all-gather"])


@pytest.mark.parametrize("lines", [ASYNCHRONOUS, GENERIC], ids=["start", "async-start"])
def test_the_schedule_says_which_computation_lies_between(lines):
    assert found_between(lines) == ("early",)


def test_a_synchronous_or_unscheduled_module_has_nothing_between():
    assert found_between(SYNCHRONOUS) == ()
    assert found_between(ASYNCHRONOUS, scheduled=False) == ()


@pytest.mark.parametrize(
    ("name", "groups", "link"),
    [
        ("cuda:h100:8", [range(8)], "NVLink"),
        ("cuda:h100:2x8", [range(8), range(8, 16)], "NVLink"),
        ("cuda:h100:2x8", [(i, i + 8) for i in range(8)], "network"),
        ("cuda:h100:2x8", [range(16)], "NVLink and network"),
        ("cuda:l4:4", [range(4)], "PCIe"),
        ("tpu:v5e:4x4", [range(16)], "ICI"),
        ("tpu:v5e:2x4:2", [(i, i + 8) for i in range(8)], "DCN"),
        ("tpu:v5e:2x4:2", [range(16)], "ICI and DCN"),
        ("tpu:v5e:2x4:2", [(0, 1), (1, 0)], "ICI"),
    ],
)
def test_the_links_follow_from_hosts_and_slices(name, groups, link):
    assert machine(name).link([tuple(group) for group in groups]) == link


def test_several_slices_are_as_many_devices():
    found = machine("tpu:v5e:4x4:3")
    assert (found.devices, found.domain, found.options["num_slices"]) == (48, 16, 3)
    assert "num_slices" not in machine("tpu:v5e:4x4").options
