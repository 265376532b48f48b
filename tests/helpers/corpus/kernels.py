"""Pallas kernels, interpreted: a matrix product on a grid, a softmax, attention in blocks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from corpus import one

KERNEL = "an interpreted kernel is lowered to a loop over the grid that copies its blocks"


def product(a, b, o):
    o[...] += a[...] @ b[...]


def matmul(a, b, tile=8):
    m, k, n = a.shape[0], a.shape[1], b.shape[1]
    return pl.pallas_call(
        product,
        jax.ShapeDtypeStruct((m, n), a.dtype),
        grid=(m // tile, n // tile, k // tile),
        in_specs=[
            pl.BlockSpec((tile, tile), lambda i, j, s: (i, s)),
            pl.BlockSpec((tile, tile), lambda i, j, s: (s, j)),
        ],
        out_specs=pl.BlockSpec((tile, tile), lambda i, j, s: (i, j)),
        interpret=True,
    )(a, b)


one("matmul", lambda a, b: matmul(a, b), "f32[16,32]", "f32[32,8]", differs=KERNEL)
one("matmul_vmap", jax.vmap(lambda a, b: matmul(a, b)), "f32[3,16,8]", "f32[3,8,8]", differs=KERNEL)


def softmax_rows(x, o):
    shifted = jnp.exp(x[...] - x[...].max(-1, keepdims=True))
    o[...] = shifted / shifted.sum(-1, keepdims=True)


def softmax(x, rows=4):
    block = pl.BlockSpec((rows, x.shape[1]), lambda i: (i, 0))
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return pl.pallas_call(
        softmax_rows, shape, grid=(x.shape[0] // rows,), in_specs=[block], out_specs=block, interpret=True
    )(x)


one("softmax", lambda x: softmax(x), "f32[16,8]", differs=KERNEL)
one(
    "softmax_in_scan",
    lambda x: lax.scan(lambda c, _: (softmax(c), None), x, None, length=3)[0],
    "f32[8,8]",
    differs=KERNEL,
)


def attend(q, k, v, o, *, tile):
    """One block of queries against all keys, with a running maximum and sum."""

    def block(j, state):
        best, total, out = state
        rows = pl.ds(j * tile, tile)
        scores = q[...] @ k[rows, :].T
        new = jnp.maximum(best, scores.max(-1))
        weights, kept = jnp.exp(scores - new[:, None]), jnp.exp(best - new)
        return new, total * kept + weights.sum(-1), out * kept[:, None] + weights @ v[rows, :]

    n, d = q.shape
    start = (jnp.full((n,), -jnp.inf), jnp.zeros((n,)), jnp.zeros((n, d)))
    _, total, out = lax.fori_loop(0, k.shape[0] // tile, block, start)
    o[...] = out / total[:, None]


def flash_attention(q, k, v, tile=8):
    rows = pl.BlockSpec((tile, q.shape[1]), lambda i: (i, 0))
    whole = pl.BlockSpec(k.shape, lambda i: (0, 0))
    return pl.pallas_call(
        lambda *refs: attend(*refs, tile=tile),
        jax.ShapeDtypeStruct(q.shape, q.dtype),
        grid=(q.shape[0] // tile,),
        in_specs=[rows, whole, whole],
        out_specs=rows,
        interpret=True,
    )(q, k, v)


one("flash_attention", lambda q, k, v: flash_attention(q, k, v), *["f32[16,4]"] * 3, differs=KERNEL)


def double(x, o):
    @pl.when(pl.program_id(0) > 0)
    def _():
        o[...] = x[...] * 2

    @pl.when(pl.program_id(0) == 0)
    def _():
        o[...] = x[...]


def doubled(x):
    block = pl.BlockSpec((4,), lambda i: (i,))
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return pl.pallas_call(double, shape, grid=(4,), in_specs=[block], out_specs=block, interpret=True)(x)


one("guarded_step", lambda x: doubled(x), "f32[16]", differs=KERNEL)
one(
    "without_grid",
    lambda x: pl.pallas_call(product, jax.ShapeDtypeStruct((8, 8), jnp.float32), interpret=True)(x, x),
    "f32[8,8]",
    differs=KERNEL,
)
