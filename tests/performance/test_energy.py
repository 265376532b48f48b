"""Energy and money: always a range, in its order, and every assumption said."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import pytest

import costax
from costax.performance.energy import Energy, Range
from costax.performance.hardware.technologies import technologies, technology

# The result is the same for every version of jax.
pytestmark = pytest.mark.once


def prediction(device="h100", n=4096, **options):
    x = jax.ShapeDtypeStruct((n, n), "bfloat16")
    return costax.predict(costax.analyze(lambda a, b: a @ b)(x, x), device, **options)


@pytest.mark.parametrize("device", ["h100", "a100", "l4", "v100", "tpu-v4", "mi300x", "jetson-agx-orin-64"])
def test_energy_is_a_range(device):
    joules = prediction(device).energy().joules
    assert 0 < joules.low <= joules.expected <= joules.high


def test_at_most_it_is_the_time_at_full_power():
    """2 * 4096^3 = 137 GFLOP take 138.9 us at the data sheet's 989.4 TFLOP/s; at its 700 W that is 97.2 mJ."""
    at_the_peak = 97.2e-3
    # A product that large runs at 70 % of the peak or more.
    assert at_the_peak <= prediction().energy().joules.high <= at_the_peak / 0.7


def test_at_least_it_is_the_operations_times_their_picojoules():
    """7 nm (Jouppi et al. 2021): 2048^3 bf16 multiplications of 0.21 pJ and fp32 additions of 0.38 pJ are 5.068 mJ.

    HBM2 (O'Connor et al. 2017): three matrices of 8 MiB, at 31.2 pJ a byte, are 0.785 mJ.
    """
    assert prediction(n=2048).energy("7nm").joules.low == pytest.approx(5.068e-3 + 0.785e-3, rel=1e-3)


def test_a_device_that_draws_the_same_at_rest_and_at_work_takes_its_power_times_the_time():
    found = prediction()
    # 100 W for the 178 us of the prediction
    assert found.energy(power=100, idle=100).joules.expected == pytest.approx(100 * found.seconds)
    cooler = found.energy(power=700, idle=70).joules.expected
    assert 70 * found.seconds < cooler < found.energy(power=700, idle=200).joules.expected < 700 * found.seconds


def test_a_byte_of_memory_takes_what_is_published():
    # Han, Pool, Tran and Dally, NIPS 2015, table 1: 640 pJ for 32 bits of DRAM at 45 nm.
    assert 4 * technology("45nm").picojoules["memory_byte"] == pytest.approx(640, rel=0.02)
    # O'Connor et al., MICRO 2017: 3.9 pJ for a bit of HBM2.
    assert technology("7nm").picojoules["memory_byte"] / 8 == pytest.approx(3.9)


def test_a_multiply_accumulate_of_fp32_takes_the_popular_4_6_picojoules_at_45_nm():
    assert technology("45nm").multiply_add("fp32") == pytest.approx(4.6)
    assert technology("45nm").multiply_add("int8") == pytest.approx(0.3)


@pytest.mark.parametrize("table", technologies().values(), ids=lambda t: t.id)
def test_every_class_of_operands_has_an_energy(table):
    for kind in ("int4", "int8", "fp8", "fp16", "bf16", "fp32", "fp64"):
        assert 0 < table.operation(kind) <= table.operation(kind, "multiply")
    assert table.source


def test_an_unknown_technology_or_power_is_an_error():
    with pytest.raises(LookupError, match="45nm, 7nm"):
        prediction().energy("3nm")
    with pytest.raises(LookupError, match="power="):
        prediction("v5e").energy()
    assert prediction("v5e").energy(power=200).joules.high > 0


def test_recalled_figures_are_named():
    assert any("Not verified" in said for said in prediction().energy().assumptions)


@dataclass(frozen=True)
class OneSecond:
    """Stands for a prediction of about a second a call, of four tokens and two examples."""

    range: tuple[float, float, float] = (0.5, 1.0, 2.0)
    tokens: int = 4
    examples: int = 2


TWO_JOULES = Energy(OneSecond(), Range(1.0, 2.0, 4.0), ())


def test_tokens_and_examples_share_the_energy():
    assert TWO_JOULES.per_token == Range(0.25, 0.5, 1.0)
    assert TWO_JOULES.per_example == Range(0.5, 1.0, 2.0)
    told = prediction(tokens=4096, examples=4).energy()
    assert told.per_token.expected == pytest.approx(told.per_example.expected / 1024)


def test_a_run_multiplies_by_calls_and_devices():
    run = TWO_JOULES.run(1800, 2, carbon_intensity=400, price=3.0, overhead=1.25)
    # 1800 seconds are half an hour, on two devices a device hour
    assert run.seconds == Range(900, 1800, 3600)
    assert run.device_hours == Range(0.5, 1.0, 2.0)
    assert run.cost == Range(1.5, 3.0, 6.0)
    # 1800 calls on 2 devices at 2 J are 7200 J, with the building 9000 J: 2.5 Wh, which is a gram of CO2
    assert run.kwh.expected == pytest.approx(0.0025)
    assert run.co2_grams.expected == pytest.approx(1.0)


def test_carbon_and_money_need_your_own_figures():
    run = prediction().energy().run(10)
    assert run.co2_grams is None
    assert run.cost is None
    assert "CO2" not in str(run)
