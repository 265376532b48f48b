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


def step(params, x):
    return jax.grad(lambda params: (x @ params).sum())(params)


def training(device="h100", n=4096, **options):
    x = jax.ShapeDtypeStruct((n, n), "bfloat16")
    return costax.predict(costax.analyze(step)(x, x), device, **options)


def test_a_training_run_has_the_range_of_published_ones():
    found = training()
    run = found.energy().run(1000, 16)
    at_the_peak = found.model_flops / found.peak[1] * 16 * 1000 / 3600
    # 15 % (JetMoE) to 71 % (MaxText on v5p) of the peak, and a median of a third.
    assert run.device_hours.high == pytest.approx(at_the_peak / 0.154, rel=0.01)
    assert run.device_hours.expected == pytest.approx(at_the_peak / 0.325, rel=0.01)
    assert run.device_hours.low == pytest.approx(at_the_peak / 0.7147, rel=0.3)
    assert run.kwh.high == pytest.approx(run.device_hours.high * 0.7 * 1.2)
    assert run.kwh.low == pytest.approx(run.device_hours.low * 0.7 * 0.7)
    assert any("published training runs" in said for said in run.assumptions)
    assert "published training runs" in str(run)
    # The overhead of a known building stands for the range.
    assert found.energy().run(1000, 16, overhead=1.0).kwh.high == pytest.approx(run.device_hours.high * 0.7)


def test_a_run_that_trains_nothing_is_the_prediction_times_its_calls():
    found = prediction()
    run = found.energy().run(1000, 16)
    assert run.seconds == Range(*found.range) * 1000
    assert run.kwh == found.energy().joules * (1000 * 16 / 3.6e6)
    assert run.assumptions == []


def test_a_training_step_that_is_slower_than_real_runs_stays_so():
    # A step of rows of one is bound by memory: its utilisation is far below 15 %.
    w, x = jax.ShapeDtypeStruct((8192, 8192), "bfloat16"), jax.ShapeDtypeStruct((1, 8192), "bfloat16")
    found = costax.predict(costax.analyze(step)(w, x), "h100")
    assert found.mfu < 0.05
    assert found.energy().run(10).seconds == Range(*found.range) * 10


def test_no_run_that_the_range_is_held_against_is_among_those_it_is_read_from():
    from costax.performance.real_runs import power_share, runs, utilisation

    names = " ".join(run.name for run in runs())
    for held_out in ("BLOOM", "OPT", "LLaMA", "Llama 2 13B", "Llama 2 70B", "Llama 3"):
        assert held_out not in names
    assert all(run.source and 0.1 < run.mfu < 0.75 for run in runs())
    # StarCoder: 6 x 15.5e9 parameters x 1e12 tokens in 320,256 hours of an A100.
    (starcoder,) = (run.mfu for run in runs() if "StarCoder" in run.name)
    assert starcoder == pytest.approx(6 * 15.5e21 / (320_256 * 3600 * 312e12))
    assert utilisation().count == len(runs()) >= 20
    assert 0.5 < power_share().least < power_share().most <= 1


@pytest.fixture(scope="module")
def published():
    """The rows of benchmarks/training_runs.py by name, each computed once."""
    import runpy
    from pathlib import Path

    script = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "training_runs.py"))
    return {run.name: script["row"](run) for run in script["RUNS"]}


@pytest.mark.slow
def test_the_hours_and_the_energy_of_published_runs_lie_in_the_range(published):
    assert len(published) >= 10
    outside = [
        name
        for name, (run, hours, kwh) in published.items()
        if not (hours.low <= run.hours <= hours.high and kwh.low <= run.kwh <= kwh.high)
    ]
    assert outside == []
    # A range of 0 to infinity would hold them too.
    assert all(hours.high / hours.low < 8 and kwh.high / kwh.low < 14 for _, hours, kwh in published.values())


@pytest.mark.slow
def test_the_expected_hours_are_not_on_one_side_of_the_published(published):
    ratios = sorted(hours.expected / run.hours for run, hours, _ in published.values())
    assert ratios[0] < 1 < ratios[-1]
    assert ratios[0] > 0.5
    assert ratios[-1] < 2


@pytest.mark.slow
def test_the_docs_print_the_errors_of_the_published_runs(published):
    from pathlib import Path

    page = (Path(__file__).resolve().parents[2] / "docs" / "prediction.md").read_text()
    for name, (run, hours, kwh) in published.items():
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {name} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert float(cells[3]) == pytest.approx(hours.expected / run.hours, rel=0.1), "benchmarks/training_runs.py"
        assert float(cells[6]) == pytest.approx(kwh.expected / run.kwh, rel=0.1), "benchmarks/training_runs.py"
