"""What the ends of a range mean, and that a prediction names the table of each efficiency."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import costax
from costax.performance.efficiency.tables import constants, program_spread

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

SPEC = jax.ShapeDtypeStruct((4096, 4096), jnp.bfloat16)


def predict(fn, device, *specs):
    return costax.predict(costax.analyze(fn)(*specs), device)


@pytest.mark.parametrize("device", ["h100-sxm", "a100-sxm-80", "b200"])
def test_the_range_of_one_product_is_that_of_the_measured_products(device):
    best, expected, worst = predict(jnp.matmul, device, SPEC, SPEC).range
    known = constants(device, "bf16")
    assert known.measured
    assert best / expected == pytest.approx(known.low)
    assert worst / expected >= known.high


def test_a_device_without_a_table_has_the_range_of_those_that_were_left_out():
    known, other = constants("h100-sxm", "bf16"), constants("mi300x", "bf16")
    assert not other.measured
    assert other.low < known.low < 1 < known.high < other.high
    best, _, worst = predict(jnp.matmul, "mi300x", SPEC, SPEC).range
    assert worst / best > known.high / known.low


def test_the_range_of_a_program_is_at_least_that_of_published_runs():
    best, expected, worst = predict(lambda x, w: jnp.tanh(x @ w) @ w, "h100", SPEC, SPEC).range
    low, high = program_spread("gpu")
    assert best <= low * expected * 1.001
    assert worst >= high * expected


def test_the_worst_case_of_many_small_kernels_is_bound_by_the_host():
    def chain(x, w):
        for _ in range(50):
            x = jnp.tanh(x @ w)
        return x

    small = jax.ShapeDtypeStruct((8, 256), jnp.bfloat16), jax.ShapeDtypeStruct((256, 256), jnp.bfloat16)
    found = predict(chain, "h100", *small)
    # At least 50 kernels, each of which the host launches in 5 us.
    assert found.range[2] - found.seconds >= 50 * 5e-6


def test_the_assumptions_name_the_table():
    sentences = predict(lambda x, w: x @ w, "h100", SPEC, SPEC).assumptions
    assert any("the measured table of h100-sxm" in x for x in sentences)
    assert any("aiconfigurator-core 0.12.0" in x for x in sentences)
    others = predict(lambda x, w: x @ w, "mi300x", SPEC, SPEC).assumptions
    assert any("other GPUs" in x for x in others)
    # A negative control: a TPU has no table.
    assert not any("aiconfigurator" in x for x in predict(lambda x, w: x @ w, "v5e", SPEC, SPEC).assumptions)
