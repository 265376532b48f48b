"""The kernels that XLA made of a program, with the work of each."""

from __future__ import annotations

from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.compare.attribution import attribute
from costax.compare.kernels import of_compiled
from costax.compare.owners import CallSiteIndex
from costax.compare.stage_costs import StageCost
from costax.hlo.read import read_bytes
from costax.hlo.replay import replay_module
from hlo_oracle import from_text


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
    assert "compiled for the CPU" in predicted.assumptions[0]
    assert "XLA's own" in predicted.assumptions[1]


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


def compiled(text):
    """The stage of a module that is written out, without a program."""
    replay = replay_module(read_bytes(from_text(text)))
    costs = attribute(replay, CallSiteIndex(()), {}).costs
    return StageCost("compiled", replay, costs, None)


PRODUCT = """f {
  a = f32[8,8] parameter(0)
  ROOT d = f32[8,8] dot(a, a), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
ENTRY e {
  p = f32[8,8] parameter(0)
  c = f32[8,8] call(p), to_apply=f
  ROOT d.2 = f32[8,8] call(c), to_apply=f
}
"""


def test_a_kernel_of_a_function_that_is_called_twice_runs_twice():
    (kernel,) = of_compiled(compiled(PRODUCT))
    assert (kernel.times, kernel.instruction) == (2, "d")
    assert kernel.matmul == {"f32": 2 * 8**3}


GATHER = """f {
  table = f32[1000,64] parameter(0)
  rows = s32[8,1] parameter(1)
  g = f32[8,64] gather(table, rows), offset_dims={1}, collapsed_slice_dims={0}, start_index_map={0}, index_vector_dim=1, slice_sizes={1,64}
  ROOT t = f32[8,64] tanh(g)
}
ENTRY e {
  p = f32[1000,64] parameter(0)
  q = s32[8,1] parameter(1)
  ROOT r = f32[8,64] fusion(p, q), kind=kLoop, calls=f
}
"""  # noqa: E501


def test_a_gather_in_a_fusion_reads_the_rows_that_it_takes():
    (kernel,) = of_compiled(compiled(GATHER))
    # Eight rows of 64 are read and written, and their numbers are read; the table has 1,000 rows.
    assert 2 * 4 * 8 * 64 <= kernel.moved <= 3 * 4 * 8 * 64 + 4 * 8


def test_an_unrolled_scan_runs_its_body_for_each_step_once():
    def fn(x):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c), None), x, None, length=10, unroll=4)[0]

    # Before optimisation: two iterations of four steps, and two steps after the loop.
    comparison = costax.compare(fn, passes=False)(spec(8))
    assert comparison.lowered.executed.transcendentals == comparison.compiled.executed.transcendentals == 10 * 8


@pytest.mark.parametrize("remat", [False, True])
def test_the_directions_of_scanned_layers_are_those_of_the_analysis(remat):
    layers, rows, width = 4, 32, 64

    def loss(weights, x):
        def body(h, w):
            return jnp.tanh(h @ w), None

        scanned = jax.checkpoint(body) if remat else body
        return (lax.scan(scanned, x, weights)[0] ** 2).mean()

    def step(weights, x):
        return weights - 0.1 * jax.grad(loss)(weights, x)

    comparison = costax.compare(step)(spec(layers, width, width), spec(rows, width))
    once = layers * 2 * rows * width * width
    for program in (comparison, comparison.jaxpr):
        products: Counter[str] = Counter()
        for part in costax.predict(program, "tpu-v5e").parts:
            products[part.kernel.direction] += sum(part.kernel.matmul.values()) * part.kernel.times
        # Each layer has one product forward, one for the gradient of each operand, and the recomputed one.
        assert +products == {"forward": once, "backward": 2 * once} | ({"recompute": once} if remat else {})
