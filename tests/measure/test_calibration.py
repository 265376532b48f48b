"""Calibration: what becomes of measured seconds, and what a calibrated CPU makes of a program, by hand."""

from __future__ import annotations

import threading
import time
from math import log2
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import costax
from costax.errors import DeviceError
from costax.measure.calibration.clock import processor_seconds, sample, share
from costax.measure.calibration.rates import Point, rates_of
from costax.measure.calibration.trials import all_trials
from costax.performance.cpu import timing
from costax.performance.cpu.rates import FORMAT
from costax.performance.cpu.timing import steps_of
from costax.performance.hardware import read

MACHINE = f"""
name = "a machine"
vendor = "x86"
calibrated = "2026-12-01"

[peak.fp32]
value = 1e12
source = "calibration"

[rates]
format = {FORMAT}
memory = [[1000, 1e12], [1000000, 1e12]]

[rates.dispatch]
seconds = 1e-5
argument = 1e-6

[rates.launch]
seconds = 1e-7
library = 1e-6
inlined = 1e-9

[rates.elementwise]
add = {{f32 = 1e12, i32 = 1e12}}
exponential = {{f32 = 1e9}}
power = {{f32 = 1e8}}

[rates.sort]
rows = {{f32 = [[100, 1e8], [10000, 1e6]]}}

[rates.product]
1 = {{f32 = [[1, 1e9]]}}
100 = {{f32 = [[1, 1e11]]}}

[rates.parallel]
elementwise = 2.0

[sources.calibration]
title = "by hand"
url = ""
date = 2026-12-01
"""


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "machine.toml").write_text(MACHINE)
    return read(tmp_path / "machine.toml")


def spec(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, dtype)


def compiled(fn, *args):
    return costax.analyze(jax.jit(fn).lower(*args).compile())()


def steps(program):
    return [step for kernel in program.kernels() for step in steps_of(kernel)[0]]


def units(program, table):
    return sum(
        step.units * float(kernel.times)
        for kernel in program.kernels()
        for step in steps_of(kernel)[0]
        if step.table == table
    )


# What a kernel does.


@pytest.mark.parametrize("read_as", ["jaxpr", "module"])
@pytest.mark.parametrize(
    ("fn", "args", "table", "expected"),
    [
        (jnp.exp, [spec(30, 40)], "elementwise.exponential", 30 * 40),
        (lambda x: x**-1.5, [spec(30, 40)], "elementwise.power", 30 * 40),
        (lambda x: lax.sort(x), [spec(8, 1024)], "sort.rows", 8 * 1024 * log2(1024)),
        (lambda x: lax.sort(x, dimension=0), [spec(64, 6)], "sort.columns", 6 * 64 * log2(64)),
        (lambda x: lax.top_k(x, 5), [spec(7, 500)], "sort.chosen", 7 * 5),
        (jnp.fft.fft, [spec(4, 256, dtype="complex64")], "fft", 4 * 256 * log2(256)),
        (lambda a: lax.linalg.cholesky(a, symmetrize_input=False), [spec(3, 20, 20)], "library.potrf", 3 * 20**3),
        (lambda a: lax.linalg.lu(a)[0], [spec(20, 20)], "library.getrf", 20**3),
        (lambda a, b: a @ b, [spec(16, 32), spec(32, 64)], "product.16", 2 * 16 * 32 * 64),
        (lambda t, i: t[i], [spec(50, 6), spec(9, dtype="int32")], "gather", 9 * 6),
        (lambda t, i, g: t.at[i].add(g), [spec(50, 6), spec(9, dtype="int32"), spec(9, 6)], "scatter", 9 * 6),
        (lambda x: x.sum(1), [spec(50, 20)], "reduce.rows", 50 * 20),
        (lambda x: x.argmax(1), [spec(50, 20)], "reduce.variadic", 50 * 20),
    ],
)
def test_a_program_has_the_steps_that_one_counts_by_hand(read_as, fn, args, table, expected):
    program = compiled(fn, *args) if read_as == "module" else costax.analyze(fn)(*args)
    assert units(program, table) == pytest.approx(expected)


def test_a_convolution_is_told_by_its_dimensions_and_by_who_computes_it():
    def convolution(rank):
        letters = "DHW"[-rank:]
        numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
        return lambda x, w: lax.conv_general_dilated(x, w, (1,) * rank, "SAME", dimension_numbers=numbers)

    for rank in (1, 2, 3):
        args = (spec(1, *(12,) * rank, 8), spec(*(3,) * rank, 8, 16))
        found = [x for x in steps(compiled(convolution(rank), *args)) if x.table.startswith("convolution")]
        assert sum(x.units for x in found) == 2 * 12**rank * 3**rank * 8 * 16
        assert {x.table for x in found} <= {f"convolution.{rank}d", "convolution.fused"}


def test_every_iteration_of_a_scan_counts():
    def scanned(x):
        return lax.scan(lambda c, _: (jnp.exp(c), None), x, None, length=70)[0]

    assert units(compiled(scanned, spec(400)), "elementwise.exponential") == 70 * 400
    assert units(costax.analyze(scanned)(spec(400)), "elementwise.exponential") == 70 * 400


# From seconds to rates.


def point(table, fn, *args, seconds):
    return Point(table, compiled(fn, *args).kernels(), seconds, 0, len(args))


def starts():
    yield point("dispatch", lambda x: x + 1, spec(4), seconds=20e-6)
    yield point("start", lambda x: x + 1, spec(4), seconds=10e-6)


def test_the_rate_is_what_is_left_when_the_start_and_the_rest_are_taken_off():
    known = point("elementwise.exponential", jnp.exp, spec(1000), seconds=10e-6 + 5e-6)
    both = point("elementwise.power", lambda x: jnp.exp(x) + abs(x) ** 1.7, spec(1000), seconds=10e-6 + 5e-6 + 40e-6)
    rates = rates_of([*starts(), known, both])
    assert rates["elementwise"]["exponential"]["f32"] == [[1.0, pytest.approx(1000 / 5e-6)]]
    assert rates["elementwise"]["power"]["f32"] == [[1.0, pytest.approx(1000 / 40e-6, rel=0.2)]]


def test_noise_makes_no_rate_infinite():
    rates = rates_of([*starts(), point("elementwise.exponential", jnp.exp, spec(1000), seconds=9e-6)])
    assert rates["elementwise"]["exponential"]["f32"] == [[1.0, pytest.approx(1000 / (0.05 * 9e-6))]]


def test_a_sort_has_a_rate_for_each_length():
    trials = [point("sort.rows", lax.sort, spec(4, n), seconds=10e-6 + n * 1e-6) for n in (64, 1024)]
    found = rates_of([*starts(), *trials])["sort"]["rows"]["f32"]
    assert found == [[64, pytest.approx(4 * 6 / 1e-6)], [1024, pytest.approx(4 * 10 / 1e-6)]]


def test_each_trial_measures_the_table_that_it_says():
    for trial in all_trials(quick=True):
        if trial.table.partition(".")[0] in ("elementwise", "move", "reduce", "sort", "fft", "product", "gather"):
            fn, args = trial.make()
            found = {step.table for step in steps(compiled(fn, *args))}
            # Without XLA's library there are no fusions of pairs.
            wanted = "reduce" if trial.table == "reduce.pairs" else trial.table
            assert any(table.startswith(wanted) for table in found), (trial.table, found)


def test_processor_time_does_not_contain_waiting():
    import time

    def run():
        time.sleep(0.05)
        return jnp.zeros(1)

    # A thread that sleeps uses no processor.
    assert sample(run) < 0.04
    assert share(run) >= 1


# What a calibrated CPU makes of a program.


def processor(program, machine):
    found = costax.predict(program, machine)
    assert found.processor_seconds is not None
    return found.processor_seconds - found.dispatch


def test_a_sort_takes_n_log_n_at_the_rate_of_its_length(machine):
    found = processor(costax.analyze(lambda x: lax.sort(x))(spec(6, 1000)), machine)
    # Between 1e8 at 100 and 1e6 at 10,000 lies 1e7 at 1,000.
    assert found == pytest.approx(6 * 1000 * log2(1000) / 1e7, rel=0.01)


def test_a_power_takes_longer_than_an_exponential_by_their_rates(machine):
    power, exponential = (
        processor(costax.analyze(fn)(spec(10**6)), machine) for fn in (lambda x: x**-1.5, lambda x: jnp.exp(x))
    )
    assert power / exponential == pytest.approx(10, rel=0.05)


def test_a_product_goes_at_the_rate_of_its_smallest_extent(machine):
    found = processor(costax.analyze(jnp.matmul)(spec(10, 100), spec(100, 200)), machine)
    # Between 1e9 at 1 and 1e11 at 100 lies 1e10 at 10.
    assert found == pytest.approx(2 * 10 * 100 * 200 / 1e10, rel=0.05)


def test_wall_time_is_the_processor_time_over_the_threads_that_share_it(machine):
    found = costax.predict(costax.analyze(jnp.exp)(spec(10**6)), machine)
    assert found.seconds - found.dispatch == pytest.approx(10**6 / 1e9 / 2, rel=0.02)
    assert found.processor_seconds - found.dispatch == pytest.approx(10**6 / 1e9, rel=0.02)
    best, expected, worst = found.range
    assert best <= expected <= found.processor_seconds <= worst


def test_the_processor_time_has_what_other_threads_take_at_this_moment():
    done, end = threading.Event(), threading.Event()
    taken = []

    def work():
        start = time.thread_time()
        while time.thread_time() - start < 0.003:
            pass
        taken.append(time.thread_time() - start)
        done.set()
        end.wait()

    before = processor_seconds()
    thread = threading.Thread(target=work)
    thread.start()
    done.wait()
    # The clock of the process has the time of a running thread only since the last tick of the system.
    found = processor_seconds() - before
    end.set()
    thread.join()
    assert found >= taken[0]


def test_threads_without_work_wait_for_the_calibrated_time_at_most(monkeypatch):
    def kernel(times, *, shared=False):
        return SimpleNamespace(times=times, shared=shared)

    monkeypatch.setattr(timing, "uses_threads", lambda kernel: kernel.shared)
    shared, alone = kernel(1, shared=True), kernel(1)
    # Two processors. A shared kernel leaves none of their time over; one that runs alone leaves as much as it takes.
    assert timing.waiting([(alone, 5.0, 5.0)], 3.0, 2) == 0
    assert timing.waiting([(alone, 5.0, 5.0), (shared, 8.0, 4.0)], 3.0, 2) == 0
    assert timing.waiting([(shared, 8.0, 4.0), (alone, 1.0, 1.0), (alone, 1.0, 1.0)], 3.0, 2) == 2
    assert timing.waiting([(shared, 8.0, 4.0), (alone, 5.0, 5.0)], 3.0, 2) == 3
    assert timing.waiting([(shared, 8.0, 4.0), (alone, 5.0, 5.0), (shared, 8.0, 4.0), (alone, 1.0, 1.0)], 3.0, 2) == 4
    # Ten iterations: a shared kernel, two seconds alone, and so on.
    loop = [(kernel(10, shared=True), 8.0, 4.0), (kernel(10), 2.0, 2.0)]
    assert timing.waiting(loop, 3.0, 2) == 20
    assert timing.waiting(loop[::-1], 3.0, 2) == 18
    # Two of four processors share a kernel.
    assert timing.waiting([(shared, 2.0, 1.0)], 3.0, 4) == 2


def test_a_prediction_of_processor_time_has_the_waiting(tmp_path):
    waits = MACHINE.replace("argument = 1e-6", "argument = 1e-6\nwaiting = 2e-4\nprocessors = 2")
    (tmp_path / "waits.toml").write_text(waits)

    def program(x, y):
        return jnp.exp(x), lax.sort(y)

    args = spec(1000, 1000), spec(4, 10_000)
    (tmp_path / "machine.toml").write_text(MACHINE)
    without = costax.predict(compiled(program, *args), read(tmp_path / "machine.toml"))
    found = costax.predict(compiled(program, *args), read(tmp_path / "waits.toml"))
    assert without.waiting == 0
    assert 0 < found.waiting <= 4e-4
    assert found.processor_seconds == pytest.approx(without.processor_seconds + found.waiting)
    assert found.seconds == without.seconds


@pytest.mark.parametrize("side", [3, 7])
def test_a_depthwise_convolution_of_a_library_is_one_product_for_each_result(side):
    def convolved(x, k):
        return lax.conv_general_dilated(
            x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=16
        )

    found = steps(costax.analyze(convolved)(spec(2, 10, 12, 16), spec(side, side, 1, 16)))
    assert found == [("convolution.depthwise", "f32", 2 * 10 * 12 * 16, side * side)]


def test_a_qr_factorisation_of_a_jaxpr_has_the_routines_of_the_module():
    program = jnp.linalg.qr
    names = {step.table for step in steps(compiled(program, spec(30, 20))) if step.table.startswith("library")}
    assert names == {step.table for step in steps(costax.analyze(program)(spec(30, 20)))} & names
    assert names == {"library.geqrf", "library.orgqr"}


def test_a_loop_on_little_data_is_one_function_without_launches(machine):
    def small(x):
        return lax.fori_loop(0, 1000, lambda i, x: x * 0.5 + 1.0, x)

    little, much = compiled(small, spec(4)), compiled(small, spec(10_000))
    if not any(kernel.inlined for kernel in little.kernels()):
        pytest.skip("this version of XLA has no small calls")
    if any(kernel.inlined for kernel in much.kernels()):
        pytest.skip("this version of XLA compiles a loop of any size into one function")
    launches = sum(1000 for kernel in little.kernels() if kernel.times == 1000)
    launched = processor(little, machine)
    assert launched < launches * 1e-7 / 10
    assert processor(much, machine) > launches * 1e-7 / 2


def test_what_was_not_measured_is_named_and_widens_the_range(machine):
    unknown = costax.predict(costax.analyze(lambda x: lax.cumsum(x))(spec(10**7)), machine)
    known = costax.predict(costax.analyze(jnp.exp)(spec(1000)), machine)
    assert any("reduce.windows (f32)" in sentence for sentence in unknown.assumptions)
    assert not any("Not measured" in sentence for sentence in known.assumptions)
    widths = [x.range[2] / x.range[0] for x in (unknown, known)]
    assert widths[0] > 20 > widths[1]


def test_threads_that_wait_actively_for_each_other_are_named(machine):
    large, small = (costax.predict(costax.analyze(lax.linalg.cholesky)(spec(n, n)), machine) for n in (256, 32))
    named = [any("wait actively for each other in potrf" in text for text in x.assumptions) for x in (large, small)]
    assert named == [True, False]
    assert large.range[2] > 10 * large.seconds


def test_the_rates_of_an_earlier_calibration_are_read_but_not_predicted_with(tmp_path):
    old = MACHINE.replace(f"format = {FORMAT}\n", "layers = [[1, 1e9]]\n")
    (tmp_path / "old.toml").write_text(old)
    device = read(tmp_path / "old.toml")
    assert device.peaks["fp32"].value == 1e12
    with pytest.raises(DeviceError, match="costax calibrate"):
        costax.predict(costax.analyze(jnp.exp)(spec(4)), device)
    assert costax.predict(costax.analyze(jnp.exp)(spec(4)), read_new(tmp_path)).seconds > 0


def read_new(folder: Path):
    (folder / "new.toml").write_text(MACHINE)
    return read(folder / "new.toml")


def test_a_gpu_is_not_calibrated(monkeypatch, tmp_path):
    monkeypatch.setattr("costax._jax.device", lambda: ("gpu", "NVIDIA H100"))
    with pytest.raises(DeviceError, match="JAX_PLATFORMS=cpu"):
        costax.calibrate(tmp_path / "gpu.toml")
    assert not (tmp_path / "gpu.toml").exists()


def test_random_arguments_are_the_same_in_every_calibration():
    first, second = (next(t for t in all_trials(quick=True) if t.table == "sort.rows").make()[1][0] for _ in range(2))
    assert np.array_equal(first, second)
    # Sorted numbers would be sorted in a fraction of the time.
    assert not np.array_equal(first, np.sort(first))
