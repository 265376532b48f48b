"""cuDNN's fused attention is traced and predicted without a GPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import costax
from costax.core import units

QUERY = jax.ShapeDtypeStruct((4, 4096, 16, 128), jnp.bfloat16)


def attention(implementation, **options):
    def attend(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, implementation=implementation, **options)

    return attend


def test_a_fused_attention_is_faster_than_a_plain_one():
    fused, plain = (
        costax.predict(costax.analyze(attention(name, is_causal=True))(QUERY, QUERY, QUERY), "h100")
        for name in ("cudnn", "xla")
    )
    assert fused.seconds < plain.seconds / 3
    # Causal attention has half of 4 b h s^2 d FLOPs; FlashAttention-3 reaches 400 to 650 TFLOP/s at such sizes.
    flops = 2 * 4 * 16 * 4096**2 * 128
    assert 300e12 < flops / fused.seconds < 700e12


def test_the_gradient_of_a_fused_attention_takes_two_to_four_times_as_long():
    def loss(q, k, v):
        return attention("cudnn", is_causal=True)(q, k, v).astype(jnp.float32).sum()

    forward = costax.predict(costax.analyze(attention("cudnn", is_causal=True))(QUERY, QUERY, QUERY), "h100").seconds
    both = costax.predict(costax.analyze(jax.grad(loss, argnums=(0, 1, 2)))(QUERY, QUERY, QUERY), "h100").seconds
    assert 3 < both / forward < 5


def test_one_query_is_bound_by_reading_the_cache():
    query, cache = (jax.ShapeDtypeStruct((64, n, 8, 128), jnp.bfloat16) for n in (1, 8192))
    found = costax.predict(costax.analyze(attention("cudnn"))(query, cache, cache), "h100")
    nbytes = 2 * 2 * 64 * 8192 * 8 * 128
    assert found.seconds == pytest.approx(nbytes / costax.device("h100").bandwidth.value, rel=0.3)


def test_jax_checks_for_cudnn_again_after_the_analysis():
    costax.analyze(attention("cudnn"))(QUERY, QUERY, QUERY)
    if jax.devices()[0].platform == "gpu":
        pytest.skip("this machine has a GPU")
    # jax keeps what it has traced; no other test has this scale.
    with pytest.raises(RuntimeError, match="cuDNN"):
        jax.eval_shape(attention("cudnn", is_causal=True, scale=0.37), QUERY, QUERY, QUERY)


def test_plain_attention_says_what_a_fused_kernel_would_take():
    plain, fused = (
        costax.predict(costax.analyze(attention(name))(QUERY, QUERY, QUERY), "h100") for name in ("xla", "cudnn")
    )
    (sentence,) = [x for x in plain.assumptions if "not fused" in x]
    # One attention; its fused time is that of the fused program.
    (kernel,) = [part for part in fused.parts if part.kernel.attention]
    assert sentence.startswith("Attention is not fused, in 1 place")
    assert units.seconds(kernel.timing.expected) in sentence
    # A negative control: two products without a softmax are no attention.
    twice = costax.analyze(lambda q, k, v: jnp.einsum("bqk,bkd->bqd", jnp.einsum("bqd,bkd->bqk", q, k), v))
    arrays = [jax.ShapeDtypeStruct((64, 512, 128), jnp.bfloat16)] * 3
    for program in (fused, costax.predict(twice(*arrays), "h100")):
        assert not any("not fused" in x for x in program.assumptions)
