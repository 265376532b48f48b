"""Energy and money: always a range, in its order, and every assumption said."""

from __future__ import annotations

import jax
import pytest

import costax
from costax.performance.hardware.technologies import technologies, technology


def prediction(device="h100", n=4096, **options):
    x = jax.ShapeDtypeStruct((n, n), "bfloat16")
    return costax.predict(costax.analyze(lambda a, b: a @ b)(x, x), device, **options)


@pytest.mark.parametrize("device", ["h100", "a100", "l4", "v100", "tpu-v4", "mi300x", "jetson-agx-orin-64"])
def test_energy_is_a_range(device):
    joules = prediction(device).energy().joules
    assert 0 < joules.low <= joules.expected <= joules.high


def test_at_most_it_is_the_time_at_full_power():
    found = prediction()
    assert found.energy().joules.high == pytest.approx(found.seconds * 700)


def test_at_least_it_is_the_operations_times_their_picojoules():
    found = prediction(n=2048)
    # 7 nm: a bfloat16 multiplication and a float32 addition are 0.21 + 0.38 pJ; a byte of HBM2 is 31.2 pJ.
    picojoules = 2048**3 * (0.21 + 0.38) + 3 * 2 * 2048**2 * 31.2
    assert found.energy("7nm").joules.low == pytest.approx(picojoules * 1e-12, rel=1e-6)


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


def test_tokens_and_examples_share_the_energy():
    found = prediction(tokens=4096, examples=4).energy()
    assert found.per_token.expected * 4096 == pytest.approx(found.joules.expected)
    assert found.per_example.expected * 4 == pytest.approx(found.joules.expected)


def test_a_run_multiplies_by_calls_and_devices():
    found = prediction().energy()
    run = found.run(1000, 8, carbon_intensity=400, price=2.0, overhead=1.2)
    assert run.kwh.expected == pytest.approx(found.joules.expected * 8000 * 1.2 / 3.6e6)
    assert run.co2_grams.expected == pytest.approx(400 * run.kwh.expected)
    assert run.cost.expected == pytest.approx(2.0 * 8 * run.seconds.expected / 3600)
    assert run.seconds.low <= run.seconds.expected <= run.seconds.high


def test_carbon_and_money_need_your_own_figures():
    run = prediction().energy().run(10)
    assert run.co2_grams is None
    assert run.cost is None
    assert "CO2" not in str(run)
