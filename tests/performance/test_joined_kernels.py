"""Kernels that XLA joins on a GPU. Truth: the kernels of modules that XLA (jax 0.10.2) compiled for an H100."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax

pytestmark = pytest.mark.once

HALF = ("bf16[8192,384]", "bf16[384,1536]")


def batch_norm(x, scale):
    wide = x.astype(jnp.float32)
    mean, square = wide.mean((0, 1, 2)), (wide * wide).mean((0, 1, 2))
    return ((wide - mean) * lax.rsqrt(square - mean * mean + 1e-5) * scale).astype(x.dtype)


def with_bias_and_relu(x, w, bias):
    y = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.nn.relu(y + bias)


def scores(q, k, mask):
    return jnp.where(mask, jnp.einsum("bqnd,bknd->bnqk", q, k) * 0.125, -1e9)


# A function, its arguments, and the megabytes that each kernel of XLA's module moves; kernels below 1 MB are left out.
CASES = {
    "bias": (lambda x, w, b: x @ w + b, (*HALF, "bf16[1536]"), [33]),
    "bias of sequences": (lambda x, w, b: x @ w + b, ("f16[1024,197,384]", "f16[384,1536]", "f16[1536]"), [776]),
    "bias and relu": (lambda x, w, b: jax.nn.relu(x @ w + b), (*HALF, "bf16[1536]"), [33]),
    "bias and relu in float32": (
        lambda x, w, b: jax.nn.relu(x @ w + b),
        ("f32[8192,384]", "f32[384,1536]", "f32[1536]"),
        [65],
    ),
    "bias and residual": (
        lambda x, w, b, r: x @ w + b + r,
        (*HALF, "bf16[1536]", "bf16[8192,1536]"),
        [58],
    ),
    "tanh": (lambda x, w: jnp.tanh(x @ w), HALF, [33]),
    "sigmoid": (lambda x, w: jax.nn.sigmoid(x @ w), HALF, [33]),
    "wider result": (lambda x, w: (x @ w).astype(jnp.float32), HALF, [58]),
    "heads": (lambda x, w, b: (x @ w).reshape(64, 128, 12, 128) + b, (*HALF, "bf16[12,128]"), [33]),
    "bias and relu of a convolution": (
        with_bias_and_relu,
        ("f16[64,56,56,64]", "f16[3,3,64,64]", "f16[64]"),
        [51],
    ),
    # What XLA does not join.
    "gelu reads its operand twice": (
        lambda x, w, b: jax.nn.gelu(x @ w + b),
        (*HALF, "bf16[1536]"),
        [33, 50],
    ),
    "silu reads its operand twice": (lambda x, w: jax.nn.silu(x @ w), HALF, [33, 50]),
    "the product is used again": (lambda x, w, b: ((y := x @ w) + b, y), (*HALF, "bf16[1536]"), [33, 50]),
    "a wider result that is scaled": (lambda x, w: (x @ w).astype(jnp.float32) * 2, HALF, [33, 75]),
    "a wider residual": (
        lambda x, w, r: r + (x @ w).astype(jnp.float32),
        (*HALF, "f32[8192,1536]"),
        [33, 126],
    ),
    "a gate that is computed": (lambda x, w, r: (x @ w) * jnp.tanh(r), (*HALF, "bf16[8192,1536]"), [33, 75]),
    # Kernels that read the same array.
    "sums of one array": (lambda x: ((x * x).sum(1), x.sum(1), jnp.abs(x).max(1)), ("f32[8192,4096]",), [134]),
    "sums over different axes": (lambda x: ((x * x).sum(0), x.sum(1)), ("f32[8192,4096]",), [134, 134]),
    "loops over one array": (lambda x: (x * x, x + 1), ("f32[8192,4096]",), [403]),
    "a sum of what a loop writes": (lambda x, r: ((y := x * 2 + r), y.sum(1)), ("f32[8192,4096]",) * 2, [403]),
    "batch norm": (batch_norm, ("f16[64,56,56,64]", "f32[64]"), [26, 51]),
}


@pytest.mark.parametrize("name", CASES)
def test_kernels_move_the_bytes_of_those_that_xla_compiles(name):
    function, shapes, moved = CASES[name]
    prediction = costax.predict(costax.analyze(function)(*map(costax.spec, shapes)), "h100-sxm")
    found = [round(float(part.kernel.moved) / 1e6) for part in prediction.parts]
    assert sorted(x for x in found if x) == sorted(moved)


def test_masked_scores_are_written_once():
    shapes = ("bf16[8,512,16,64]", "bf16[8,512,16,64]", "bool[512,512]")
    prediction = costax.predict(costax.analyze(scores)(*map(costax.spec, shapes)), "h100-sxm")
    # Queries and keys of 8.4 MB each and scores of 67 MB.
    assert max(round(float(part.kernel.moved) / 1e6) for part in prediction.parts) == 84


def test_kernels_of_other_machines_stay_apart():
    function, shapes, _ = CASES["bias"]
    prediction = costax.predict(costax.analyze(function)(*map(costax.spec, shapes)), "tpu-v5e")
    assert len(prediction.parts) == 2


def test_joined_kernels_keep_the_operations():
    function, shapes, _ = CASES["sums of one array"]
    analysis = costax.analyze(function)(*map(costax.spec, shapes))
    (part,) = costax.predict(analysis, "h100-sxm").parts
    assert part.kernel.vector == {"f32": sum(kernel.vector["f32"] for kernel in analysis.kernels())}


def test_a_kernel_between_two_others_keeps_them_apart():
    def function(x):
        total = x.sum(1, keepdims=True)
        return total, (x - total).max(1)

    (first, second) = costax.predict(costax.analyze(function)(costax.spec("f32[8192,4096]")), "h100-sxm").parts
    assert float(first.kernel.moved) > 1e8
    assert float(second.kernel.moved) > 1e8


def test_a_region_that_runs_at_several_places_joins_its_kernels_at_each():
    def step(x, w):
        return jax.nn.relu(x @ w), None

    def function(x, weights):
        x, _ = lax.scan(step, x, weights)
        return lax.scan(step, x, weights)[0]

    analysis = costax.analyze(function)(costax.spec("bf16[8192,384]"), costax.spec("bf16[6,384,384]"))
    parts = costax.predict(analysis, "h100-sxm").parts
    assert [part.kernel.times for part in parts if part.kernel.contractions] == [6, 6]
    assert not any("max" in part.kernel.name and not part.kernel.contractions for part in parts)


# TFLOP/s of torch.matmul of n x n: github.com/zzc0721/torch-performance-test-data, issues 78, 140, 96 and 124.
MEASURED = [
    ("rtx4090", "bf16", {1024: 126.84, 2048: 164.81, 4096: 151.5, 8192: 160.17}),
    ("v100-sxm2", "f16", {1024: 57.3, 2048: 78.23, 4096: 95.73, 8192: 97.36}),
    ("rtx5090", "f16", {2048: 173.86, 4096: 217.99, 8192: 223.98}),
]


@pytest.mark.parametrize(("device", "dtype", "measured"), MEASURED)
def test_products_of_a_geforce_reach_the_rate_of_their_units(device, dtype, measured):
    for n, rate in measured.items():
        analysis = costax.analyze(lambda x, y: x @ y)(*[costax.spec(f"{dtype}[{n},{n}]")] * 2)
        assert costax.predict(analysis, device).seconds == pytest.approx(2 * n**3 / (rate * 1e12), rel=0.25), n
