"""The kernels that an analysis foresees, with the work of each."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

import costax


def spec(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, dtype)


def convolved(x, kernel, groups=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups)


def test_kernels_have_all_the_work_of_the_program():
    def loss(w, x):
        h = jax.nn.gelu(x @ w)
        return jax.nn.softmax(h).sum()

    found = costax.analyze(jax.grad(loss))(spec(64, 64, dtype="float32"), spec(32, 64, dtype="float32"))
    made = found.kernels()
    assert sum(sum(g.matmul.values()) * g.times for g in made) == 2 * found.total.macs
    assert sum(sum(g.transcendental.values()) * g.times for g in made) == found.total.transcendentals


def test_kernels_of_a_loop_run_as_often_as_it_does():
    def fn(x, w):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=7)[0]

    found = costax.analyze(fn)(spec(8, 8, dtype="float32"), spec(8, 8, dtype="float32"))
    products = [g for g in found.kernels() if g.matmul]
    assert [g.times for g in products] == [7]


def test_elementwise_work_is_fused_and_reads_its_inputs_once():
    found = costax.analyze(lambda x: jnp.tanh(jnp.exp(x) * 2 + 1))(spec(1024, 1024, dtype="float32"))
    (kernel,) = found.kernels()
    assert kernel.read == kernel.written == 4 * 1024 * 1024


def test_convolutions_are_told_apart():
    def fn(x, wide, deep):
        return convolved(convolved(x, wide), deep, groups=16)

    made = costax.analyze(fn)(spec(1, 8, 8, 4), spec(3, 3, 4, 16), spec(3, 3, 1, 16)).kernels()
    found = [contraction for kernel in made for contraction in kernel.contractions]
    assert [(x.kind, x.filter_bytes) for x in found] == [("convolution", 4 * 9 * 4 * 16), ("depthwise", 4 * 9 * 16)]
