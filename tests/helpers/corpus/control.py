"""Loops, branches and maps, nested and transformed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from corpus import BRANCHES, FOLDED, LOWERED, PLATFORM, one, program

MATRIX = "f32[8,8]"


def body(c, x):
    return jnp.tanh(c @ x), c.sum()


# Scans.

one("scan", lambda c, xs: lax.scan(body, c, xs), MATRIX, "f32[5,8,8]")
one("scan_length", lambda c: lax.scan(lambda c, _: (jnp.sin(c), None), c, None, length=7)[0], MATRIX)
one("scan_reverse", lambda c, xs: lax.scan(body, c, xs, reverse=True), MATRIX, "f32[5,8,8]")
one("scan_of_one", lambda c, xs: lax.scan(body, c, xs), MATRIX, "f32[1,8,8]")
one("scan_of_none", lambda c, xs: lax.scan(body, c, xs), MATRIX, "f32[0,8,8]")
one("scan_unrolled", lambda c, xs: lax.scan(body, c, xs, unroll=2), MATRIX, "f32[6,8,8]")
one("scan_flattened", lambda c, xs: lax.scan(body, c, xs, unroll=True), MATRIX, "f32[3,8,8]")
one("scan_gradient", jax.grad(lambda c, xs: lax.scan(body, c, xs)[0].sum(), (0, 1)), MATRIX, "f32[5,8,8]")
one("scan_vmap", jax.vmap(lambda c, xs: lax.scan(body, c, xs)), "f32[3,8,8]", "f32[3,5,8,8]")
one(
    "scan_gradient_vmap",
    jax.vmap(jax.grad(lambda c, xs: lax.scan(body, c, xs)[0].sum()), (0, None)),
    "f32[3,8,8]",
    "f32[5,8,8]",
)


@program(MATRIX, "f32[3,4,8,8]")
def scans_in_scan(c, xs):
    def outer(c, rows):
        return lax.scan(body, c, rows)

    return lax.scan(outer, c, xs)


@program(MATRIX, "f32[3,2,4,8,8]")
def scans_in_scans_in_scan(c, xs):
    def inner(c, x):
        return lax.scan(body, c, x)

    return lax.scan(lambda c, x: lax.scan(inner, c, x, reverse=True), c, xs)


@program(MATRIX, "f32[5,8,8]")
def scan_of_cond(c, xs):
    return lax.scan(lambda c, x: (lax.cond(x[0, 0] > 0, lambda: c @ x, lambda: c + x), None), c, xs)[0]


# While and fori.


@program("f32[8]")
def while_until_small(x):
    return lax.while_loop(lambda x: jnp.linalg.norm(x) > 1e-3, lambda x: x * 0.5, x)


@program("f32[8,8]", "f32[8]")
def while_power_iteration(a, v):
    def step(state):
        v, _, n = state
        w = a @ v
        length = jnp.sqrt(w @ w)
        return w / length, length, n + 1

    return lax.while_loop(lambda s: (s[1] > 0.5) & (s[2] < 100), step, (v, 1.0, 0))


@program("f32[8]")
def while_counted(x):
    return lax.while_loop(lambda s: s[0] < 12, lambda s: (s[0] + 3, s[1] * 2), (0, x))


@program("f32[4,8]", "i32[4]", differs=LOWERED)
def while_vmap(xs, ends):
    def run(x, end):
        return lax.while_loop(lambda s: s[0] < end, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, x))

    return jax.vmap(run)(xs, ends)


one("fori_static", lambda x: lax.fori_loop(0, 9, lambda i, c: c @ c + i, x), MATRIX)
one("fori_dynamic", lambda x, n: lax.fori_loop(0, n, lambda i, c: c @ c, x), MATRIX, "i32[]")
one("fori_nested", lambda x: lax.fori_loop(0, 3, lambda i, c: lax.fori_loop(0, 4, lambda j, d: d @ d, c), x), MATRIX)
one("fori_triangle", lambda x: lax.fori_loop(0, 3, lambda i, c: lax.fori_loop(0, i, lambda j, d: d * 2, c), x), MATRIX)
one("fori_empty", lambda x: lax.fori_loop(5, 5, lambda i, c: c @ c, x), MATRIX)
one("fori_gradient", jax.grad(lambda x: lax.fori_loop(0, 4, lambda i, c: jnp.sin(c @ c), x).sum()), MATRIX)
one("fori_update", lambda x: lax.fori_loop(0, 8, lambda i, c: c.at[i].set(c[i - 1] * 2), x), MATRIX, differs=FOLDED)


# Branches.


def halves(p, x):
    return lax.cond(p, lambda x: x @ x, lambda x: x + 1, x)


one("cond", halves, "bool[]", MATRIX)
one("cond_without_work", lambda p, x: lax.cond(p, lambda x: x, lambda x: x.T, x), "bool[]", MATRIX)
one("cond_vmap", jax.vmap(halves), "bool[3]", "f32[3,8,8]", differs=FOLDED)
one("cond_vmap_shared", jax.vmap(halves, (None, 0)), "bool[]", "f32[3,8,8]")
one("cond_gradient", jax.grad(lambda x, p: halves(p, x).sum()), MATRIX, "bool[]")
one("cond_mixed", lambda p, x: lax.cond(p, jnp.exp, lambda x: 3 * x + 1, x), "bool[]", MATRIX, differs=BRANCHES)
one("switch", lambda i, x: lax.switch(i, [lambda x: x, lambda x: x @ x, lambda x: 2 * x], x), "i32[]", MATRIX)
one("platform", lambda x: lax.platform_dependent(x, cpu=lambda x: x + 1, default=lambda x: x @ x), MATRIX)
one("platform_default", lambda x: lax.platform_dependent(x, tpu=lambda x: x @ x, default=lambda x: x + 1), MATRIX)
one("platform_diagonal", lambda x: jnp.diagonal(x), MATRIX, differs=PLATFORM)


@program("bool[]", "i32[]", MATRIX)
def cond_of_switch(p, i, x):
    return lax.cond(p, lambda: lax.switch(i, [lambda: x @ x, lambda: x @ x @ x]), lambda: x)


@program("i32[4]", "f32[4,8]", differs=FOLDED)
def switch_vmap_gradient(i, x):
    def choose(i, x):
        return lax.switch(i, [lambda x: x * x, lambda x: x * 2, lambda x: x - 1], x).sum()

    return jax.vmap(jax.grad(choose, 1))(i, x)


# Maps.

one("map", lambda xs: lax.map(lambda x: x @ x, xs), "f32[5,8,8]")
one("map_batched", lambda xs: lax.map(lambda x: x @ x, xs, batch_size=2), "f32[5,8,8]")
one("associative_scan", lambda xs: lax.associative_scan(jnp.matmul, xs), "f32[7,4,4]")
one("associative_scan_reverse", lambda xs: lax.associative_scan(jnp.add, xs, reverse=True), "f32[16,4]")
one("vmap", jax.vmap(lambda x, y: x @ y, (0, None)), "f32[5,8,8]", MATRIX)
one("vmap_axes", jax.vmap(jax.vmap(jnp.dot, (None, 1)), (0, None)), "f32[5,8]", "f32[8,3]")
one("vectorize", jnp.vectorize(lambda a, b: a @ b, signature="(n),(n)->()"), "f32[4,8]", "f32[8]")
one("apply_along_axis", lambda x: jnp.apply_along_axis(jnp.sum, 0, x), MATRIX)


@jax.jit
def shared(x):
    return jnp.tanh(x @ x)


one("jit_in_jit", lambda x: shared(shared(x)) + shared(x), MATRIX)
one("jit_in_scan", lambda x: lax.scan(lambda c, _: (shared(c), None), x, None, length=3)[0], MATRIX)
one("checkpointed_scan", lambda c, xs: lax.scan(jax.checkpoint(body), c, xs), MATRIX, "f32[5,8,8]")
one("dead_code", lambda x: (x @ x, x + 1)[1], MATRIX)
