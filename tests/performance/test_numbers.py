"""Dtypes without a unit: what a device does instead is said and takes its time, or it is refused with the cure."""

from __future__ import annotations

import jax
import pytest

import costax
from costax.errors import DeviceError

# The result is the same for every version of jax.
pytestmark = pytest.mark.once
N = 4096


@pytest.fixture(scope="module")
def product():
    made = {}

    def of(dtype, device, n=N):
        if (dtype, n) not in made:
            with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
                x = jax.ShapeDtypeStruct((n, n), dtype)
                made[dtype, n] = costax.analyze(lambda a, b: a @ b)(x, x)
        return costax.predict(made[dtype, n], device)

    return of


@pytest.mark.parametrize("device", ["v5e", "v7x", "v6e"])
def test_float64_on_a_tpu_costs_its_emulation(product, device):
    wide, narrow = product("float64", device), product("bfloat16", device)
    # libtpu estimates 13 to 44 times the cycles of a bfloat16 product.
    assert 13 < wide.seconds / narrow.seconds < 44
    assert any("no float64 unit" in said for said in wide.assumptions)
    assert not any("unit" in said and "no " in said for said in narrow.assumptions)


@pytest.mark.parametrize(
    ("dtype", "device"),
    [("float64", "apple-m4"), ("complex128", "m4-max"), ("float64", "trn2"), ("int64", "v5e"), ("int64", "apple-m4")],
)
def test_what_a_device_cannot_do_is_refused_with_the_cure(product, dtype, device):
    with pytest.raises(DeviceError, match="no unit or rate") as caught:
        product(dtype, device)
    assert "float32" in caught.value.cure


def test_float64_elementwise_work_is_refused_too_where_there_is_none():
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        x = jax.ShapeDtypeStruct((N,), "float64")
        found = costax.analyze(lambda a: a * a + 1)(x)
    with pytest.raises(DeviceError, match="arithmetic in f64"):
        costax.predict(found, "apple-m4")
    assert costax.predict(found, "h100").seconds > 0


# How many times longer than another dtype. Sources: XLA's compilers, see costax.performance.hardware.arithmetic.
RATIOS = [
    # XLA:GPU converts bfloat16 to float32 where there is no unit for it (sm_70, sm_75).
    ("bfloat16", "float32", "v100", 1),
    ("bfloat16", "float32", "t4", 1),
    # Four real products, on the float32 units: on a T4 or V100 without TF32 exactly four times float32.
    ("complex64", "float32", "v100", 4),
    # With TF32 it is 4 x 494.7 / 66.9 times as long.
    ("complex64", "float32", "h100", 4 * 494.7 / 66.9),
    ("complex128", "float64", "h100", 4),
    # Three real products, by libtpu's own HLO.
    ("complex64", "float32", "v5e", 3),
    ("float8_e4m3fn", "float16", "a100", 1),
    ("float8_e4m3fn", "bfloat16", "v5e", 1),
    ("float16", "bfloat16", "v5e", 1),
    # 64 integer multiply-adds a clock and multiprocessor; tensor cores do 16 times as many in TF32 at 1.83/1.98 GHz.
    ("int32", "float32", "h100", 494.7 / 33.5),
    ("int32", "bfloat16", "v5e", 9.5),
]


@pytest.mark.parametrize(("dtype", "other", "device", "expected"), RATIOS)
def test_a_dtype_without_a_unit_takes_the_time_of_what_is_computed_instead(product, dtype, other, device, expected):
    # Large enough for the start-up time of the units to be nothing.
    found, base = product(dtype, device, 16384), product(other, device, 16384)
    assert found.seconds / base.seconds == pytest.approx(expected, rel=0.1)
    assert any(said.startswith(found.parts[0].kernel.contractions[0].dtype) for said in found.assumptions)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
def test_nothing_is_said_of_dtypes_with_a_unit(product, dtype):
    assert not any(" on NVIDIA H100" in said for said in product(dtype, "h100").assumptions)


@pytest.mark.parametrize("device", ["tpu-v2", "tpu-v3", "tpu-v7x", "mi250x"])
def test_a_device_of_jax_that_is_half_a_chip_takes_twice_the_time(product, device):
    chip = costax.device(device)
    found = product("bfloat16", device, 16384)
    assert found.peak[1] == chip.peaks["bf16"].value / 2
    assert found.range[0] == pytest.approx(2 * 16384**3 / (chip.peaks["bf16"].value / 2), rel=0.1)
    assert any("time, peak, memory and power are of one of them" in said for said in found.assumptions)
    fit = costax.fits(found.analysis, device)
    assert fit.room <= (chip.usable or chip.capacity).value / 2
    # Neither takes half of the half.
    assert costax.predict(found.analysis, found.device).seconds == found.seconds


CALIBRATED = """
name = "A calibrated CPU"
vendor = "x86"
calibrated = "2026-11-30"
[rates]
format = 3
[rates.product.64]
f32 = [[1e6, 1e11], [1e12, 1e11]]
"""


def test_a_complex_product_is_four_real_ones_on_a_calibrated_device(product, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(CALIBRATED)
    wide, narrow = product("complex64", str(path)), product("float32", str(path))
    assert wide.parts[0].timing.terms["matmul unit"] == pytest.approx(4 * 2 * N**3 / 1e11)
    assert narrow.parts[0].timing.terms["matmul unit"] == pytest.approx(2 * N**3 / 1e11)


def test_a_calibrated_device_is_never_refused(product, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(CALIBRATED)
    assert product("float64", str(path)).seconds > 0
