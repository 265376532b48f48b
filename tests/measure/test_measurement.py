"""Measurement: the only part that runs a program, and what it says of its runs."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import pytest

import costax
from costax.measure.join.places import place_of
from costax.measure.measurement import arguments
from costax.measure.profile import profiled

x = jax.ShapeDtypeStruct((128, 128), "float32")


def work(w, x):
    with jax.named_scope("first"):
        x = jnp.tanh(x @ w)
    with jax.named_scope("second"):
        return (x @ w).sum()


# Of `work`: two products and a sum.
FLOPS = 2 * 2 * 128**3 + 128**2 - 1


def test_a_measurement_says_how_long_a_call_takes():
    found = costax.measure(work, iterations=5)(x, x)
    assert len(found.latencies) == 5
    assert 0 < found.fastest <= found.latency <= max(found.latencies)
    assert found.flops_per_second == pytest.approx(FLOPS / found.latency)
    assert found.throughput > 0
    assert found.compile_seconds > 0


def test_a_call_takes_at_least_as_long_as_its_slowest_part():
    def slow(x):
        return jax.pure_callback(lambda x: (time.sleep(0.02), x)[1], jax.ShapeDtypeStruct((), "float32"), x)

    with pytest.warns(costax.UncountedWarning, match="pure_callback"):
        found = costax.measure(slow, iterations=3)(jax.ShapeDtypeStruct((), "float32"))
    assert found.fastest >= 0.02


def test_arguments_that_are_given_are_used():
    seen = []

    def fn(x):
        jax.debug.callback(lambda x: seen.append(float(x)), x[0])
        return x * 2

    costax.measure(fn, iterations=1)(jnp.full(4, 7.0))
    jax.effects_barrier()
    assert set(seen) == {7.0}


def test_arguments_that_are_shapes_are_made_up_and_said_so():
    found = costax.measure(work, iterations=2)(x, jnp.ones((128, 128)))
    assert found.made_up == 1
    assert any("only a shape" in note for note in found.notes)


def test_keys_integers_and_booleans_are_made_up_too():
    def fn(key, i, b, c):
        return jax.random.normal(key, (4,)) + i + b + c.real

    specs = (costax.spec("key<fry>[]"), costax.spec("i32[4]"), costax.spec("bool[4]"), costax.spec("c64[4]"))
    assert costax.measure(fn, iterations=1)(*specs).made_up == 4


def test_what_is_donated_is_copied_for_each_run():
    step = jax.jit(lambda w, g: w - g, donate_argnums=0)
    given = jnp.ones((64, 64))
    found = costax.measure(step, iterations=3)(given, jax.ShapeDtypeStruct((64, 64), "float32"))
    assert len(found.latencies) == 3
    assert float(given.sum()) == 64 * 64


def test_utilisation_needs_a_known_peak(tmp_path, monkeypatch):
    monkeypatch.setenv("COSTAX_DEVICES", str(tmp_path))
    found = costax.measure(work, iterations=2)(x, x)
    assert found.mfu is None
    assert any("no peak for" in note for note in found.notes)
    on_h100 = costax.measure(work, iterations=2, device="h100")(x, x)
    # XLA multiplies float32 as TF32, of which the data sheet gives 494.7 TFLOP/s without sparsity.
    assert on_h100.mfu == pytest.approx(FLOPS / on_h100.latency / 494.7e12, rel=1e-3)


def test_noise_is_reported():
    found = costax.measure(work, iterations=4)(x, x)
    assert "standard error" in found.notes[0]
    assert "as many runs as requested" in found.notes[0]


def test_no_runs_measure_nothing():
    with pytest.raises(TypeError, match="must be a number of at least 1"):
        costax.measure(work, iterations=0)


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("jit(step)/transpose(jvp(ResNet))/layer1_0/conv1/conv_general_dilated", "ResNet/layer1_0/conv1"),
        ("jit(main)/while/body/closed_call/layers/attention/dot_general", "layers/attention"),
        ("jit(f)/jit(relu)/max", ""),
        ("", ""),
        ("reduce", ""),
    ],
)
def test_scopes_are_read_off_the_names_of_instructions(name, scope):
    assert "/".join(place_of(name).scope) == scope


def test_a_profile_has_the_scopes_of_the_analysis():
    analysis = costax.analyze(work)(*[jax.ShapeDtypeStruct((512, 512), "float32")] * 2)
    values, _ = arguments(analysis.program, (), {})
    found = profiled(analysis, values)
    assert found.runs == 3
    assert found.coverage == 1
    assert not found.unjoined
    assert found.step.median > 0
    # The compiler of some versions fuses both scopes into one kernel, which has the name of its root.
    assert {"first", "second"} & found.by_scope().keys()
    assert found.flops >= 2 * 2 * 512**3
    assert found.total.seconds > 0


@pytest.mark.slow
@pytest.mark.once
def test_calibration_writes_a_device_that_predicts(tmp_path):
    progress = []
    path = tmp_path / "here.toml"
    device = costax.calibrate(path, quick=True, progress=lambda done, all_, what: progress.append((done, all_)))
    assert progress[-1][0] == progress[-1][1] > 0
    assert device.calibrated
    assert costax.device(str(path)).peaks["fp32"].value > 1e8
    small, large = (
        costax.predict(costax.analyze(work)(*[jax.ShapeDtypeStruct((n, n), "float32")] * 2), device).seconds
        for n in (128, 1024)
    )
    # 512 times the work; caches and starting make the small one slower a piece.
    assert 20 < large / small < 2000


def test_a_calibration_that_cannot_be_kept_is_not_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LookupError, match="cannot be written"):
        costax.calibrate(tmp_path / "file" / "here.toml")
