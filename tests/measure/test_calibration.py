"""Calibration: what becomes of measured seconds, and what a calibrated device makes of a program, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import costax
from costax.compare.kernels import of_compiled
from costax.measure.calibration.rates import Point, rates_of, starts_of
from costax.performance.hardware import read
from costax.performance.roofline import Roofline

RATES = """
name = "a machine"
vendor = "x86"
calibrated = "2026-11-21"

[peak.fp32]
value = 1e12
source = "calibration"

[memory.bandwidth]
value = 1e10
source = "calibration"

[rates.dispatch]
seconds = 1e-5
threads = 2e-5

[rates.launch]
seconds = 1e-6

[rates]
layers = [[1, 1e9], [100, 1e11]]
bandwidth = [[1, 1e11]]
reading = [[1000000, 1e10]]
transpose = [[1, 1e9]]
packing = [[1, 1e10]]
chained_convolution = [[1, 1e8]]

[rates.matmul]
fp32 = [[1, 1e11]]

[rates.convolution]
fp32 = [[1, 1e10]]

[sources.calibration]
title = "by hand"
url = ""
date = 2026-11-21
"""


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "machine.toml").write_text(RATES)
    return read(tmp_path / "machine.toml")


def spec(*shape):
    return jax.ShapeDtypeStruct(shape, "float32")


# From seconds to rates.


def points(dispatch=10e-6, threads=30e-6, launch=1e-6, layer=100e-6):
    """What a machine would measure whose starts and layers take so long."""
    flops = 2 * 32 * 512**2
    yield Point("dispatch", "", 1, 1, 1, dispatch)
    yield Point("launch", "", 1, 1, 200, dispatch + 200 * launch)
    yield Point("threads", "", 1, flops, 1, dispatch + threads + (layer + launch))
    yield Point("layers", "", 32, flops, 8, dispatch + threads + 8 * (layer + launch))
    yield Point("matmul", "fp32", 1e6, 1e6, 100, dispatch + 100 * (1e-5 + launch))
    yield Point("convolution", "fp32", 980_000, 980_000, 100, dispatch + 100 * (0.98e-4 + launch))
    # A kernel of 40,000 bytes: 980,000 operations on 7 x 7 pixels, and as long again for its layout.
    yield Point("packing", "fp32", 40_000, 980_000, 100, dispatch + 100 * (2 * 0.98e-4 + launch))
    yield Point("bandwidth", "", 1000, 2000, 100, dispatch + 100 * (1e-6 + launch))


def test_what_starting_takes_is_told_from_the_work():
    starts = starts_of(list(points()))
    assert starts.dispatch == pytest.approx(10e-6)
    assert starts.launch == pytest.approx(1e-6)
    # One layer and eight differ by seven; that a layer starts kernels belongs to the layer.
    assert starts.threads == pytest.approx(30e-6)


def test_rates_are_those_that_the_machine_has():
    found = rates_of(list(points()), starts_of(list(points())))
    assert found["layers", ""] == [(32, pytest.approx(2 * 32 * 512**2 / 100e-6))]
    assert found["matmul", "fp32"] == [(1e6, pytest.approx(1e11))]
    assert found["bandwidth", ""] == [(1000, pytest.approx(2e9))]
    assert found["packing", ""] == [(40_000, pytest.approx(40_000 / 0.98e-4))]
    assert not {"dispatch", "threads", "launch"} & {table for table, _ in found}


# What a calibrated device makes of a program.


def seconds(machine, fn, *args, **options):
    return costax.predict(costax.analyze(fn)(*args), machine, **options)


def test_few_rows_are_slower_than_the_unit(machine):
    few = seconds(machine, jnp.matmul, spec(10, 64), spec(64, 64))
    many = seconds(machine, jnp.matmul, spec(64, 10), spec(10, 128))
    assert few.parts[0].timing.terms["matmul unit"] == pytest.approx(2 * 10 * 64 * 64 / 1e10)
    assert many.parts[0].timing.terms["matmul unit"] == pytest.approx(2 * 64 * 10 * 128 / 6.4e10)


def test_a_program_with_products_wakes_the_threads(machine):
    assert seconds(machine, jnp.matmul, spec(64, 64), spec(64, 64)).dispatch == pytest.approx(3e-5)
    assert seconds(machine, jnp.add, spec(64, 64), spec(64, 64)).dispatch == pytest.approx(1e-5)


def test_what_was_used_a_call_ago_comes_from_afar(machine):
    # Both operands are arguments of a program that goes through more than the group does.
    one = seconds(machine, lambda a, b: (a + b, jnp.tanh(a).sum()), spec(512, 512), spec(512, 512))
    (add,) = [part for part in one.parts if part.kernel.written == 4 * 512 * 512]
    assert add.timing.terms["memory"] == pytest.approx(2 * 4 * 512 * 512 / 1e10 + 4 * 512 * 512 / 1e11)


def test_a_transposed_copy_has_a_rate_of_its_own(machine):
    comparison = costax.compare(lambda x: x.T)(spec(256, 128))
    (copy,) = of_compiled(comparison.compiled)
    assert copy.transposes
    assert Roofline(machine).timing(copy).terms["memory"] == pytest.approx(2 * 4 * 256 * 128 / 1e9)
    assert [g.transposes for g in costax.analyze(lambda x: x.T)(spec(256, 128)).kernels()] == [True]


def test_chained_convolutions_go_at_the_rate_that_was_measured_for_chains(machine):
    from costax.performance.kernels import Contraction, Kernel

    one = Contraction("convolution", "f32", 10**6, filter_bytes=1000)
    alone = Roofline(machine).timing(Kernel("one", (), "", (one,))).terms["matmul unit"]
    chain = Roofline(machine).timing(Kernel("two", (), "", (one, one))).terms["matmul unit"]
    assert alone == pytest.approx(1e6 / 1e10 + 1000 / 1e10)
    assert chain == pytest.approx(2 * 1e6 / 1e8)
