"""Derivatives of every kind, and functions that bring their own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from corpus import EXPANDED, FOLDED, MERGED, OUTER, PLATFORM, one, program

VECTOR = "f32[6]"
MATRIX = "f32[6,6]"


def energy(x, a):
    return jnp.tanh(a @ x) @ x


one("value_and_grad", jax.value_and_grad(energy), VECTOR, MATRIX, differs=OUTER)
one("grad_of_both", jax.grad(energy, (0, 1)), VECTOR, MATRIX, differs=OUTER)
one("jacobian_forward", jax.jacfwd(lambda x, a: jnp.sin(a @ x)), VECTOR, MATRIX, differs=FOLDED)
one("jacobian_reverse", jax.jacrev(lambda x, a: jnp.sin(a @ x)), VECTOR, MATRIX, differs=FOLDED)
one("hessian", jax.hessian(energy), VECTOR, MATRIX, differs=FOLDED)
one("hessian_reverse_reverse", jax.jacrev(jax.grad(energy)), VECTOR, MATRIX, differs=FOLDED)
one("jvp", lambda x, t, a: jax.jvp(lambda x: energy(x, a), (x,), (t,)), VECTOR, VECTOR, MATRIX)
one("vjp", lambda x, t, a: jax.vjp(lambda x: a @ x, x)[1](t), VECTOR, VECTOR, MATRIX)
one(
    "hessian_vector",
    lambda x, t, a: jax.jvp(jax.grad(lambda x: energy(x, a)), (x,), (t,))[1],
    *(VECTOR, VECTOR, MATRIX),
    differs=OUTER,
)
one("grad_per_example", jax.vmap(jax.grad(energy), (0, None)), "f32[4,6]", MATRIX, differs=OUTER)
one("third_derivative", jax.grad(jax.grad(jax.grad(lambda x: jnp.sin(x) * x**3))), "f32[]", differs=MERGED)
one("complex_gradient", jax.grad(lambda z: jnp.abs(z * z) ** 2, holomorphic=False), "c64[]", differs=EXPANDED)


@program(VECTOR, VECTOR)
def linearized(x, t):
    y, tangent = jax.linearize(lambda x: jnp.exp(x) * x, x)
    return y, tangent(t), tangent(2 * t)


@program(VECTOR, MATRIX)
def transposed(x, a):
    return jax.linear_transpose(lambda x: a @ x, x)(x)


@jax.custom_jvp
def log1pexp(x):
    return jnp.log(1 + jnp.exp(x))


@log1pexp.defjvp
def _log1pexp_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return log1pexp(x), t / (1 + jnp.exp(-x))


one("custom_jvp", lambda x: log1pexp(x), VECTOR)
one("custom_jvp_gradient", jax.grad(lambda x: log1pexp(x).sum()), VECTOR)
one("custom_jvp_vmap", jax.vmap(jax.grad(lambda x: log1pexp(x))), VECTOR)


@jax.custom_vjp
def clipped(x, a):
    return jnp.sin(a @ x)


def _clipped_forward(x, a):
    return clipped(x, a), (x, a)


def _clipped_backward(kept, g):
    x, a = kept
    g = jnp.clip(g, -1, 1)
    return g @ a, jnp.outer(g, x)


clipped.defvjp(_clipped_forward, _clipped_backward)

one("custom_vjp", lambda x, a: clipped(x, a), VECTOR, MATRIX)
one("custom_vjp_gradient", jax.grad(lambda x, a: clipped(x, a).sum(), (0, 1)), VECTOR, MATRIX)
one("custom_vjp_scan", lambda x, a: lax.scan(lambda c, _: (clipped(c, a), None), x, None, length=4)[0], VECTOR, MATRIX)


@program(VECTOR, MATRIX)
def custom_vjp_in_scan_gradient(x, a):
    def loss(x):
        return lax.scan(lambda c, _: (clipped(c, a), None), x, None, length=4)[0].sum()

    return jax.grad(loss)(x)


@program("f32[6,6]", "f32[6]")
def implicit_root(a, b):
    def step(x, b):
        return x - 0.1 * (a @ x - b)

    @jax.custom_vjp
    def root(b):
        return lax.fori_loop(0, 20, lambda _, x: step(x, b), b)

    def forward(b):
        x = root(b)
        return x, (x, b)

    def backward(kept, g):
        x, b = kept
        _, pull = jax.vjp(step, x, b)
        u = lax.fori_loop(0, 20, lambda _, u: g + pull(u)[0], g)
        return (pull(u)[1],)

    root.defvjp(forward, backward)
    return jax.grad(lambda b: root(b).sum())(b)


@program("f32[6,6]", "f32[6]", differs=PLATFORM)
def linear_solve_gradient(a, b):
    def solve(b):
        return lax.custom_linear_solve(lambda x: a @ x, b, lambda _, b: b / jnp.diag(a), symmetric=True)

    return jax.grad(lambda b: solve(b).sum())(b)


@jax.custom_batching.custom_vmap
def batched(x):
    return jnp.sin(x)


@batched.def_vmap
def _batched_rule(size, is_batched, x):
    return jnp.cos(x), True


one("custom_vmap", jax.vmap(lambda x: batched(x)), VECTOR)
one("custom_vmap_unbatched", lambda x: batched(x), VECTOR)
one("stop_gradient", jax.grad(lambda x: (lax.stop_gradient(jnp.exp(x)) * x).sum()), VECTOR, differs=FOLDED)
one("optimization_barrier", lambda x: lax.optimization_barrier((x, x + 1)), VECTOR)
