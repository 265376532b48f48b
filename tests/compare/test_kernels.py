"""The kernels that XLA made of a program, with the work of each."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

import costax
from costax.compare.kernels import of_compiled


def spec(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, dtype)


def convolved(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def test_xlas_own_fusions_make_the_groups_of_a_comparison():
    def fn(x, w):
        return jnp.tanh(x @ w + 1.0)

    comparison = costax.compare(fn)(spec(64, 128, dtype="float32"), spec(128, 32, dtype="float32"))
    made = of_compiled(comparison.compiled)
    assert sum(sum(g.matmul.values()) for g in made) == 2 * 64 * 128 * 32
    assert sum(sum(g.transcendental.values()) for g in made) == 64 * 32
    predicted = costax.predict(comparison, "h100")
    assert "XLA's own" in predicted.assumptions[0]


def test_what_xla_runs_in_a_loop_counts_as_often_as_it_runs():
    def fn(x, w):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=9)[0]

    made = of_compiled(costax.compare(fn)(spec(16, 16, dtype="float32"), spec(16, 16, dtype="float32")).compiled)
    assert sum(sum(g.matmul.values()) * g.times for g in made) == 9 * 2 * 16**3


def test_what_only_changes_its_shape_is_not_transposed():
    def fn(x):
        return jnp.transpose(x, (1, 0, 2)) * 2.0

    made = of_compiled(costax.compare(fn)(spec(1, 64, 32)).compiled)
    assert [g.transposes for g in made] == [False]


def test_contractions_of_xlas_fusions_have_all_the_work():
    def fn(x, a, b):
        return jnp.maximum(convolved(jnp.maximum(convolved(x, a), 0.0), b), 0.0).mean((1, 2))

    comparison = costax.compare(fn)(spec(1, 14, 14, 32), spec(3, 3, 32, 32), spec(3, 3, 32, 32))
    found = [contraction for kernel in of_compiled(comparison.compiled) for contraction in kernel.contractions]
    assert {x.kind for x in found} <= {"convolution", "plain convolution"}
    assert [x.filter_bytes for x in found] == [4 * 9 * 32 * 32] * 2
    # Of the 3 x 3 taps of 14 x 14 pixels XLA counts those that fall into the image: 40 along each side.
    assert sum(x.flops for x in found) == 2 * 2 * 40**2 * 32 * 32
