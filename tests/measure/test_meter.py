"""The meter of a training loop: expected numbers follow from a clock that the test sets."""

from __future__ import annotations

import logging
import time

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

import costax
from costax.errors import DeviceError, InputError, SymbolError
from costax.measure.meter import Meter, StepWork
from language_models import analysis as traced
from published_models import MODELS

# A product of 2 x 10^12 FLOPs, of which a device of 10^12 FLOP/s does not more than one in two seconds.
WORK = StepWork("model", 2e12, 3e12, 1, 1e12)


class Clock:
    """A clock that steps of given lengths move on."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def readings(seconds, work=WORK, tokens=None, **options):
    """The readings after the first tick and after each step of so many seconds."""
    clock = Clock()
    meter = Meter(work, clock=clock, **options)
    found = [meter.tick(tokens)]
    for duration in seconds:
        clock.now += duration
        found.append(meter.tick(tokens))
    return found


def test_the_first_step_and_the_warm_up_are_left_out():
    found = readings([60.0, 7.0, 5.0, 4.0], warm_up=2)
    assert [reading.step_seconds for reading in found] == [None, None, None, 5.0, 4.5]
    assert [reading.step for reading in found] == [1, 2, 3, 4, 5]
    assert readings([60.0], warm_up=0)[-1].step_seconds == 60.0


def test_rates_are_work_over_the_median_of_the_window():
    *_, last = readings([9.0, 9.0, 4.0, 5.0, 4.0, 4.0, 6.0], warm_up=0, window=5, tokens=1000)
    # The five last steps: 4, 4, 4, 5, 6.
    assert (last.median_seconds, last.mean_seconds, last.step_seconds) == (4.0, 4.6, 4.0)
    assert last.spread == (5.0 - 4.0) / 4.0
    assert last.model_flops_per_second_per_device == 2e12 / 4
    assert (last.mfu, last.hfu) == (0.5, 0.75)
    assert last.tokens_per_second == last.tokens_per_second_per_device == 250.0


def test_tokens_of_several_devices_are_said_of_one_and_of_all():
    *_, last = readings([4.0] * 3, StepWork("model", 2e12, 2e12, 8, 1e12), tokens=4000)
    assert (last.tokens_per_second, last.tokens_per_second_per_device) == (1000.0, 125.0)
    assert last.mfu == 0.5
    assert "125 tokens/s a device" in str(last)


def test_a_loop_that_waits_for_every_tenth_step_has_the_mean_as_its_step():
    # Nine steps are only started; the tenth tick waits for all ten, of 4 s each.
    ahead = ([0.01] * 9 + [40 - 0.09]) * 6
    *_, last = readings(ahead, warm_up=0)
    assert last.is_uneven
    assert last.median_seconds == pytest.approx(0.01)
    assert last.step_seconds == pytest.approx(4.0)
    assert last.mfu == pytest.approx(0.5)


def test_a_loop_that_has_not_waited_yet_has_no_time():
    *_, last = readings([0.01] * 9, warm_up=0)
    # 2e12 FLOPs in 10 ms would be 200 times the peak.
    assert not last.is_possible
    assert last.scalars().keys() == {"spread"}
    assert "runs ahead" in str(last)


def test_what_happens_between_two_steps_can_be_skipped():
    clock = Clock()
    meter = Meter(WORK, clock=clock, warm_up=0)
    meter.tick()
    clock.now += 4
    meter.tick()
    clock.now += 900  # a checkpoint
    meter.skip()
    clock.now += 4
    meter.tick()
    clock.now += 4
    assert meter.tick().intervals == (4.0, 4.0)


def test_steps_with_and_without_tokens_have_no_rate_of_tokens():
    clock = Clock()
    meter = Meter(WORK, clock=clock, warm_up=0)
    for tokens in (10, 10, None):
        clock.now += 4
        last = meter.tick(tokens)
    assert last.tokens_per_second is None
    assert "tokens_per_second" not in last.scalars()


# From a program.


def step(w, x):
    return jax.value_and_grad(lambda w: jax.checkpoint(lambda w: jnp.tanh(x @ w) @ w)(w).sum())(w)


ARGS = costax.spec("bf16[64,64]"), costax.spec("bf16[8,64]")


def test_the_work_is_that_of_the_analysis_by_the_convention_that_is_asked_for():
    analysis = costax.analyze(step, params_argnums=0)(*ARGS)
    found = costax.meter(step, *ARGS, device="h100-sxm", params_argnums=0).work
    assert found.hardware_flops == analysis.total.flops
    assert found.model_flops == analysis.mfu(1.0, "h100-sxm").flops() < analysis.total.flops
    assert found.peak == costax.device("h100-sxm").peaks["bf16"].value
    assert costax.meter(analysis, device="h100-sxm", convention="palm").work.model_flops == analysis.as_("palm")
    assert costax.meter(analysis, device="h100-sxm", devices=4).work.hardware_flops == analysis.total.flops / 4


def test_a_published_run_of_maxtext_has_its_published_rates():
    # DeepSeek2-16B on four v5p: 5.667 s, 134.924 TFLOP/s and 8,672.758 tokens/s a device (MaxText's documentation).
    analysis = traced(MODELS["deepseek2-16b"], 2048, batch=96, training=True)
    meter = costax.meter(analysis, device="tpu-v5p", devices=4, convention="maxtext", peak="bf16")
    *_, last = readings([5.667] * 4, meter.work, tokens=96 * 2048)
    assert last.model_flops_per_second_per_device / 1e12 == pytest.approx(134.924, rel=1e-4)
    assert last.tokens_per_second_per_device == pytest.approx(8672.758, rel=1e-4)
    assert last.mfu == pytest.approx(0.2940, abs=1e-4)


def test_a_sharded_step_has_the_work_of_one_device():
    mesh = AbstractMesh((4,), ("x",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("x")
    fn = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows)
    work = costax.meter(fn, *(costax.spec(text) for text in ("bf16[64,32]", "bf16[32,16]")), device="h100-sxm").work
    assert (work.devices, work.model_flops) == (4, 2 * 64 * 32 * 16 / 4)


def test_a_loop_on_this_machine():
    fn = jax.jit(lambda x, w: jnp.tanh(x @ w))
    x, w = jnp.ones((256, 256)), jnp.ones((256, 256))
    meter = costax.meter(fn, x, w, device="h100-sxm")
    start = time.perf_counter()
    for _ in range(20):
        x = jax.block_until_ready(fn(x, w))
        reading = meter.tick(tokens=256)
    elapsed = time.perf_counter() - start
    assert len(reading.intervals) == 20 - 1 - 2
    assert 0 < sum(reading.intervals) <= elapsed
    assert reading.model_flops_per_second_per_device == pytest.approx(2 * 256**3 / reading.step_seconds)


# Where the numbers go.


class Recorder:
    def __init__(self):
        self.rows = []


class Clu(Recorder):
    def write_scalars(self, step, scalars):
        self.rows += [(name, value, step) for name, value in scalars.items()]


class TensorBoard(Recorder):
    def add_scalar(self, name, value, step):
        self.rows.append((name, value, step))


class Flax(Recorder):
    def scalar(self, tag, value, step):
        self.rows.append((tag, value, step))


class Wandb(Recorder):
    def log(self, data, step=None):
        assert step is None
        at = data["costax/step"]
        self.rows += [(name, value, at) for name, value in data.items() if name != "costax/step"]


@pytest.mark.parametrize("kind", [Clu, TensorBoard, Flax, Wandb])
def test_every_kind_of_writer_gets_the_same_numbers(kind):
    to = kind()
    *_, last = readings([4.0] * 20, tokens=1000, to=[to], every=10)
    assert sorted({step for *_, step in to.rows}) == [10, 20]
    at_20 = {name.removeprefix("costax/"): value for name, value, step in to.rows if step == 20}
    assert at_20 == last.scalars()
    assert all(name.startswith("costax/") for name, *_ in to.rows)


def test_a_function_gets_the_readings_with_the_number_of_the_loop():
    seen = []
    clock = Clock()
    meter = Meter(WORK, to=[seen.append], every=2, warm_up=0, clock=clock)
    for number in range(100, 106):
        meter.tick(step=number)
        clock.now += 4
    assert [reading.step for reading in seen] == [101, 103, 105]
    assert [reading.mfu for reading in seen] == [0.5] * 3


def test_nothing_is_written_before_there_is_a_number():
    to = TensorBoard()
    readings([4.0] * 2, to=[to], every=1, warm_up=2)
    assert to.rows == []


def test_a_real_writer_of_tensorboard_takes_the_numbers(tmp_path):
    tensorboard = pytest.importorskip("tensorboardX")
    with tensorboard.SummaryWriter(str(tmp_path)) as to:
        readings([4.0] * 5, to=[to], every=5)
    assert any(b"costax/mfu" in path.read_bytes() for path in tmp_path.iterdir())


def test_a_real_writer_of_clu_takes_the_numbers():
    metric_writers = pytest.importorskip("clu.metric_writers")
    to = metric_writers.LoggingWriter()
    readings([4.0] * 5, to=[to], every=5)


@pytest.mark.parametrize("to", ["file.txt", 3, logging.getLogger("x")])
def test_what_is_no_writer_is_refused(to):
    with pytest.raises(InputError, match="cannot write to") as caught:
        costax.meter(step, *ARGS, device="h100-sxm", to=to)
    assert "logger.info" in caught.value.cure


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"device": "h1000"}, DeviceError, "no device"),
        ({"convention": "mine"}, InputError, "convention 'mine'"),
        ({"convention": "fvcore"}, InputError, "forward passes only"),
        ({"devices": 0}, InputError, "at least 1"),
        ({"window": 0}, InputError, "window must be at least 1"),
        ({"every": 0}, InputError, "every must be at least 1"),
        ({"warm_up": -1}, InputError, "warm_up must be at least 0"),
    ],
)
def test_wrong_options_are_one_message(options, error, text):
    with pytest.raises(error, match=text):
        costax.meter(step, *ARGS, **{"device": "h100-sxm", "params_argnums": 0, **options})


def test_an_analysis_takes_no_arguments_and_needs_numbers():
    analysis = costax.analyze(jnp.matmul)(costax.spec("bf16[b,64]"), costax.spec("bf16[64,64]"))
    with pytest.raises(SymbolError, match="depend on symbols"):
        costax.meter(analysis, device="h100-sxm")
    with pytest.raises(InputError, match="takes no arguments"):
        costax.meter(analysis, 1, device="h100-sxm")


@pytest.mark.parametrize("tokens", ["a", -1, 0, float("nan"), float("inf"), [8]])
def test_tokens_that_are_no_count_are_refused_at_once(tokens):
    measured = Meter(WORK)
    with pytest.raises(InputError, match="tokens must be a positive number"):
        measured.tick(tokens=tokens)
    assert measured.tick(tokens=8).step == 1


def test_the_parameters_of_plain_arrays_are_named_to_the_meter():
    arrays = (jax.ShapeDtypeStruct((64, 64), "float32"), jax.ShapeDtypeStruct((8, 64), "float32"))
    with pytest.raises(InputError) as refused:
        costax.meter(lambda w, x: x @ w, *arrays, device="h100-sxm", convention="maxtext")
    assert "costax.meter: params_argnums=0" in refused.value.cure
