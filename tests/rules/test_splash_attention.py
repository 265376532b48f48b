"""Splash attention of JAX: the blocks that its mask leaves are counted, and no others."""

from __future__ import annotations

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

import costax

HEAD = 128


def attention(mask, heads, length, queries=128, keys=128, compute=None, *, multi_query=False):
    """Return splash attention and the shapes of q, k and v."""
    sizes = kernels.BlockSizes(
        block_q=queries,
        block_kv=keys,
        block_kv_compute=compute or keys,
        block_q_dkv=queries,
        block_kv_dkv=keys,
        block_kv_dkv_compute=compute or keys,
        block_q_dq=queries,
        block_kv_dq=keys,
    )
    make = kernels.make_splash_mqa if multi_query else kernels.make_splash_mha
    kernel = make(masks.MultiHeadMask(mask), block_sizes=sizes, head_shards=1, q_seq_shards=1)
    q = jax.ShapeDtypeStruct((heads, length, HEAD), jnp.float32)
    kv = jax.ShapeDtypeStruct((length, HEAD) if multi_query else q.shape, jnp.float32)
    return lambda q, k, v: kernel(q, k, v), (q, kv, kv)


def blocks(visible, heads, length, queries, keys):
    """Return how many blocks of all heads have a pair of positions that may see each other, found pair by pair."""
    count = 0
    for head in range(heads):
        seen = np.array([[visible(head, q, k) for k in range(length)] for q in range(length)])
        count += seen.reshape(length // queries, queries, length // keys, keys).any((1, 3)).sum()
    return int(count)


def test_causal_attention_of_a_long_sequence_runs_528_of_1024_blocks():
    heads, length = 8, 4096
    run, shapes = attention([masks.CausalMask((length, length))] * heads, heads, length)
    analysis = costax.analyze(run)(*shapes)
    triangle = sum(k <= q for q, k in product(range(length // 128), repeat=2))
    assert triangle == 528
    assert analysis.total.macs == heads * triangle * 2 * 128 * 128 * HEAD == 17_716_740_096
    assert analysis.exact


def causal(head, q, k):
    return k <= q


def window(head, q, k):
    return q - 200 <= k <= q


def everything(head, q, k):
    return True


def shifted(head, q, k):
    return k <= q + 130


def mixed(head, q, k):
    return (causal, window, everything)[head](head, q, k)


def chunked(head, q, k):
    return k <= q and q // 256 == k // 256


N = 768
MASKS = {
    causal: lambda: masks.CausalMask((N, N)),
    window: lambda: masks.LocalMask((N, N), (200, 0), offset=0),
    everything: lambda: masks.FullMask((N, N)),
    shifted: lambda: masks.CausalMask((N, N), offset=130),
    chunked: lambda: masks.ChunkedCausalMask((N, N), 256),
}


@pytest.mark.parametrize(("queries", "keys", "compute"), [(128, 128, 128), (256, 128, 128), (128, 256, 128)])
@pytest.mark.parametrize("visible", [causal, window, everything, shifted, chunked, mixed])
def test_blocks_run_where_the_mask_leaves_a_pair(visible, queries, keys, compute):
    heads = 3
    if visible is mixed:
        mask = [MASKS[causal](), MASKS[window](), MASKS[everything]()]
    elif visible is chunked and not hasattr(masks, "ChunkedCausalMask"):
        pytest.skip("this jax has no chunked mask")
    else:
        mask = [MASKS[visible]()] * heads
    run, shapes = attention(mask, heads, N, queries, keys, compute)
    analysis = costax.analyze(run)(*shapes)
    assert analysis.total.macs == blocks(visible, heads, N, queries, keys) * 2 * queries * keys * HEAD
    assert analysis.exact


def test_a_mask_given_as_an_array_is_known_too():
    seen = np.random.default_rng(0).random((N // 128, N // 128)) < 0.4
    np.fill_diagonal(seen, val=True)
    full = np.kron(seen, np.ones((128, 128), bool))
    run, shapes = attention([masks.NumpyMask(full)] * 2, 2, N)
    assert costax.analyze(run)(*shapes).total.macs == 2 * int(seen.sum()) * 2 * 128 * 128 * HEAD


@pytest.mark.parametrize("visible", [causal, window, everything, mixed])
def test_the_backward_kernels_skip_the_same_blocks(visible):
    heads = 3
    mask = [MASKS[v]() for v in (causal, window, everything)] if visible is mixed else [MASKS[visible]()] * heads
    run, shapes = attention(mask, heads, N)
    step = jax.grad(lambda q, k, v: run(q, k, v).sum(), argnums=(0, 1, 2))
    analysis = costax.analyze(step)(*shapes)
    # Products of a block: forward q k, p v; for the gradients of k and v q k, p do, do v, ds q; for that of q q k,
    # do v, ds k. Beside the kernels, the sum of out * do over each row.
    products = (2 + 4 + 3) * blocks(visible, heads, N, 128, 128) * 128 * 128 * HEAD
    rows = analysis.total.macs - products
    assert rows in (0, heads * N * HEAD)
    assert analysis.exact


def test_queries_that_share_keys_are_counted_head_by_head():
    run, shapes = attention([MASKS[causal]()] * 4, 4, N, multi_query=True)
    assert costax.analyze(run)(*shapes).total.macs == blocks(causal, 4, N, 128, 128) * 2 * 128 * 128 * HEAD


def test_a_batch_repeats_the_blocks():
    run, shapes = attention([MASKS[causal]()] * 2, 2, N)
    batch = [jax.ShapeDtypeStruct((5, *x.shape), x.dtype) for x in shapes]
    analysis = costax.analyze(jax.vmap(run))(*batch)
    assert analysis.total.macs == 5 * blocks(causal, 2, N, 128, 128) * 2 * 128 * 128 * HEAD


def test_a_kernel_in_a_loop_over_layers_keeps_its_mask():
    run, shapes = attention([MASKS[causal]()] * 2, 2, N)

    def layers(q, k, v):
        return jax.lax.scan(lambda h, _: (run(h, k, v), None), q, None, length=6)[0]

    analysis = costax.analyze(jax.jit(layers))(*shapes)
    assert analysis.total.macs == 6 * blocks(causal, 2, N, 128, 128) * 2 * 128 * 128 * HEAD


def test_a_mask_that_is_an_argument_leaves_an_upper_bound():
    kernel = kernels.make_splash_mha(masks.MultiHeadMask([MASKS[causal]()] * 2), head_shards=1, q_seq_shards=1)
    q = jax.ShapeDtypeStruct((2, N, HEAD), jnp.float32)
    analysis = costax.analyze(lambda kernel, q, k, v: kernel(q, k, v))(kernel, q, q, q)
    assert analysis.exactness == "upper bound"
    assert analysis.total.macs >= blocks(causal, 2, N, 128, 128) * 2 * 128 * 128 * HEAD
