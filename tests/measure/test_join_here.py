"""Profiles of this machine's processor, of every version of jax."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import costax
from costax.measure.measurement import arguments
from costax.measure.profile import profiled
from costax.program.targets import load_target

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RUNS = 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mlp_train.py:mlp_train_step", "conv.py:bottleneck", "first_conv.py:first_conv_gradient"]
)
def test_an_example_is_profiled_and_joined(name):
    analysis = costax.analyze(load_target(f"{EXAMPLES}/{name}", ()))()
    values, _ = arguments(analysis.program, (), {})
    found = profiled(analysis, values, RUNS)
    assert (found.runs, found.devices) == (RUNS, 1)
    assert found.coverage == 1
    assert not found.untimed
    assert not found.unjoined
    assert found.flops == found.analysis.executed.flops > 0
    # All that keeps the processor busy is some instruction; one run may be much faster than another.
    assert 0 < found.busy.fastest <= sum(row.measured.run.slowest for row in found.rows if row.measured)
    assert sum(part.seconds for part in found.by_scope().values()) == pytest.approx(found.total.seconds)


def loss(x, w):
    def layer(x, _):
        with jax.named_scope("layer"):
            return jnp.tanh(x @ w), None

    return jax.lax.scan(layer, x, None, length=5)[0].sum()


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """A profile of some runs of a program with a loop, as a user makes it."""
    folder = tmp_path_factory.mktemp("profile")
    step, x, w = jax.jit(jax.grad(loss)), jnp.ones((64, 64)), jnp.ones((64, 64))
    jax.block_until_ready(step(x, w))
    with jax.profiler.trace(folder):
        for _ in range(RUNS):
            jax.block_until_ready(step(x, w))
    return folder


X = jax.ShapeDtypeStruct((64, 64), "float32")


def test_a_profile_is_joined_with_the_module_that_it_embeds(profile):
    found = costax.join(None, profile)
    assert found.runs == RUNS
    assert found.coverage == 1
    # Backward, a step of the loop multiplies by the transposed weights; forward it multiplies once.
    assert found.by_direction()["backward"].cost.flops >= 5 * 2 * 64**3
    assert found.by_direction()["forward"].cost.flops >= 5 * 2 * 64**3
    assert [row for row in found.rows if row.opcode == "while" and row.measured]


def test_a_function_and_a_comparison_are_joined_with_the_profile_of_their_program(profile):
    alone = costax.join(None, profile)
    compiled = costax.join(costax.analyze(jax.grad(loss))(X, X), profile)
    compared = costax.join(costax.compare(jax.grad(loss))(X, X), profile)
    stage = costax.join(jax.jit(jax.grad(loss)).lower(X, X).compile(), profile)
    for found in (compiled, compared, stage):
        assert found.total.seconds == pytest.approx(alone.total.seconds)
        assert found.flops == alone.flops
        assert found.by_direction().keys() == alone.by_direction().keys()


def test_the_json_of_a_profile_has_the_same_times(profile):
    (path,) = profile.rglob("*.trace.json.gz")
    analysis = costax.analyze(jax.grad(loss))(X, X)
    whole, json = costax.join(analysis, profile), costax.join(analysis, path)
    for name, part in whole.by_instruction().items():
        # The JSON has nanoseconds, the profile picoseconds.
        assert json.by_instruction()[name].seconds == pytest.approx(part.seconds, abs=2e-8), name
