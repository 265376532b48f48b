"""Cost estimates of Pallas kernels: from a reference, from the kernel itself, and filled in for a whole program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl

import costax
from costax.errors import InputError, MissingRuleError


def matmul_kernel(x, y, out):
    out[...] = jnp.dot(x[...], y[...], preferred_element_type=jnp.float32)


def matmul(x, y, block=16, estimate=None):
    """A product (m, k) x (k, n) in blocks of the result, each with the whole k."""
    (m, k), n = x.shape, y.shape[1]
    return pl.pallas_call(
        matmul_kernel,
        jax.ShapeDtypeStruct((m, n), jnp.float32),
        grid=(m // block, n // block),
        in_specs=[pl.BlockSpec((block, k), lambda i, j: (i, 0)), pl.BlockSpec((k, block), lambda i, j: (0, j))],
        out_specs=pl.BlockSpec((block, block), lambda i, j: (i, j)),
        cost_estimate=estimate(x, y) if estimate else None,
        interpret=True,
    )(x, y)


def exponential(x):
    def kernel(x, out):
        out[...] = jnp.exp(x[...]) * 2

    return pl.pallas_call(kernel, jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)


def estimates(function, *args):
    """Return the cost estimates of all kernels of a traced function, those in loops and calls too."""
    found = []

    def search(jaxpr):
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "pallas_call":
                found.append(eqn.params["cost_estimate"])
                continue
            for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    search(inner)

    search(jax.make_jaxpr(function)(*args).jaxpr)
    return found


def numbers(estimate):
    return estimate.flops, estimate.transcendentals, estimate.bytes_accessed


X, Y = jnp.arange(64 * 32, dtype=jnp.float32).reshape(64, 32), jnp.ones((32, 48))


def test_an_estimate_counts_flops_transcendentals_and_compulsory_bytes():
    x, y = costax.spec("bf16[64,32]"), costax.spec("bf16[32,48]")
    found = costax.cost_estimate(lambda x, y: jnp.exp(x @ y))(x, y)
    assert isinstance(found, pl.CostEstimate)
    assert numbers(found) == (2 * 64 * 32 * 48, 64 * 48, 2 * (64 * 32 + 32 * 48 + 64 * 48))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: jnp.tanh(x).sum(), (64 * 32 - 1, 64 * 32, 4 * 64 * 32 + 4)),
        (lambda x: lax.scan(lambda c, _: (c * 2 + 1, None), x, None, length=7)[0], (7 * 2 * 2048, 0, 2 * 4 * 2048)),
        (lambda x: (x, x + x), (2048, 0, 3 * 4 * 2048)),
    ],
)
def test_an_estimate_is_that_of_the_whole_function(function, expected):
    assert numbers(costax.cost_estimate(function)(X)) == expected


@pytest.mark.parametrize("jitted", [False, True])
def test_an_estimate_is_made_where_the_kernel_is_called(jitted):
    def function(x, y):
        return matmul(x, y, estimate=costax.cost_estimate(jnp.matmul))

    called = jax.jit(function) if jitted else function
    np.testing.assert_allclose(called(X, Y), X @ Y)
    (found,) = estimates(called, X, Y)
    assert numbers(found) == (2 * 64 * 32 * 48, 0, 4 * (64 * 32 + 32 * 48 + 64 * 48))


def test_an_estimate_under_vmap_and_grad_is_that_of_the_kernel_inside():
    @jax.custom_vjp
    def product(x, y):
        return matmul(x, y, estimate=costax.cost_estimate(jnp.matmul))

    product.defvjp(lambda x, y: (product(x, y), (x, y)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))
    step = jax.grad(lambda x, y: product(x, y).sum())
    np.testing.assert_allclose(step(X, Y), jnp.ones((64, 48)) @ Y.T)
    (found,) = estimates(jax.value_and_grad(lambda x, y: product(x, y).sum()), X, Y)
    assert found.flops == 2 * 64 * 32 * 48


def test_a_kernel_is_estimated_by_its_own_body():
    found = costax.cost_estimate(matmul)(X, Y)
    assert numbers(found) == numbers(costax.cost_estimate(jnp.matmul)(X, Y))
    # The blocks do not change the work.
    assert costax.cost_estimate(lambda x, y: matmul(x, y, block=8))(X, Y) == found


def test_a_program_gets_an_estimate_for_every_kernel_that_has_none():
    def program(x, y):
        scaled = exponential(x)

        def step(carry, _):
            return carry + jax.jit(matmul)(scaled, y), None

        total, _ = lax.scan(step, jnp.zeros((64, 48)), None, length=3)
        known = matmul(x, y, estimate=lambda x, y: pl.CostEstimate(flops=1, transcendentals=2, bytes_accessed=3))
        return {"total": lax.cond(total.sum() > 0, lambda: matmul(x, y), lambda: total), "known": known}

    filled = costax.with_cost_estimates(program)
    assert sum(e is None for e in estimates(program, X, Y)) == 3
    found = {numbers(e) for e in estimates(filled, X, Y)}
    product = (2 * 64 * 32 * 48, 0, 4 * (64 * 32 + 32 * 48 + 64 * 48))
    assert found == {product, (64 * 32, 64 * 32, 2 * 4 * 64 * 32), (1, 2, 3)}
    jax.tree.map(np.testing.assert_allclose, filled(X, Y), program(X, Y))
    jax.tree.map(np.testing.assert_allclose, jax.jit(filled)(X, Y), program(X, Y))


def test_a_gradient_keeps_its_meaning():
    @jax.custom_vjp
    def product(x, y):
        return matmul(x, y)

    product.defvjp(
        lambda x, y: (product(x, y), (x, y)), lambda saved, g: (matmul(g, saved[1].T), matmul(saved[0].T, g))
    )
    step = jax.grad(lambda x, y: (product(x, y) ** 2).sum(), argnums=(0, 1))
    filled = costax.with_cost_estimates(step)
    assert [e.flops for e in estimates(filled, X, Y)] == [2 * 64 * 32 * 48] * 3
    jax.tree.map(np.testing.assert_allclose, filled(X, Y), step(X, Y))


def test_other_arguments_are_constants_of_the_call():
    def program(x, scale, *, negative=False, name="a"):
        return exponential(x) * (-scale if negative else scale)

    filled = costax.with_cost_estimates(program)
    np.testing.assert_allclose(filled(X, 2, negative=True, name="b"), program(X, 2, negative=True))


def test_a_kernel_whose_grid_depends_on_data_stays_without_an_estimate():
    def program(x, n):
        def kernel(x, out):
            out[...] = x[...] * 2

        spec = pl.BlockSpec((8, 32), lambda i: (i, 0))
        call = pl.pallas_call(
            kernel, jax.ShapeDtypeStruct(x.shape, x.dtype), grid=(n,), in_specs=[spec], out_specs=spec
        )
        return call(x)

    n = jnp.int32(3)
    assert estimates(program, X, n) == estimates(costax.with_cost_estimates(program), X, n) == [None]


def test_an_estimate_needs_numbers():
    with pytest.raises(InputError, match="is a number"):
        costax.cost_estimate(lambda x: x * 2)(costax.spec("f32[b,8]"))

    def until(x):
        return lax.while_loop(lambda c: c.sum() < 9, lambda c: c * 2, x)

    with pytest.raises(InputError, match="trips"):
        costax.cost_estimate(until)(X)
    (loop,) = costax.analyze(until)(X).unknowns
    assert costax.cost_estimate(until, trips={loop.place: 5})(X).flops >= 5 * 64 * 32


def test_a_primitive_without_a_rule_is_an_error():
    from jax.extend.core import Primitive

    unknown = Primitive("unheard_of")
    unknown.def_abstract_eval(lambda x: x)
    with pytest.raises(MissingRuleError, match="unheard_of"):
        costax.cost_estimate(unknown.bind)(X)
