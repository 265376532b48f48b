"""cuDNN's fused attention and LSTM: the same work as the plain programs that they stand for.

None of these primitives traces without an NVIDIA GPU, so equations are made by hand; the truth is the same
mathematics written in jax, which is traced and counted.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax._src.cudnn import fusion  # jax has no public name for it
from jax.experimental import rnn

import costax
from costax.core.cost import COMPARE, SELECT, Cost
from costax.core.equation import Equation, Operand

BATCH, QUERIES, KEYS, HEADS, SIZE = 2, 6, 5, 4, 8
SCORES, ROWS = BATCH * HEADS * QUERIES * KEYS, BATCH * HEADS * QUERIES
BTNH, BNTH = 0, 1
PLAIN = {"variadic_args": (False, False), "mask_type": 0, "dropout_rate": 0.0, "sliding_window_length": None}


def cost(name: str, inputs, outputs, **params) -> Cost:
    return costax.rules()[name].function(Equation(name, tuple(inputs), tuple(outputs), params))


def array(*shape, dtype="bf16"):
    return Operand(shape, dtype)


QUERY, KEY = array(BATCH, QUERIES, HEADS, SIZE), array(BATCH, KEYS, HEADS, SIZE)
STATISTICS = array(BATCH, HEADS, QUERIES, dtype="f32")


def forward(inputs=(QUERY, KEY, KEY), outputs=(QUERY,), layout=BTNH, **params) -> Cost:
    return cost("dot_product_attention_fwd_wrapper", inputs, outputs, layout=layout, **{**PLAIN, **params})


def backward(inputs=(QUERY, KEY, KEY), outputs=(QUERY, KEY, KEY), **params) -> Cost:
    return cost("dot_product_attention_bwd_wrapper", inputs, outputs, layout=BTNH, **{**PLAIN, **params})


def in_plain_jax(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, implementation="xla")


def plain_args():
    return [jax.ShapeDtypeStruct(x.shape, jnp.bfloat16) for x in (QUERY, KEY, KEY)]


def test_forward_counts_what_plain_attention_counts():
    plain = costax.analyze(in_plain_jax)(*plain_args()).total
    fused = forward()
    assert fused.macs == plain.macs == 2 * SCORES * SIZE
    assert fused.transcendentals == plain.transcendentals == SCORES
    # jax's softmax takes one more maximum a row, with -inf.
    assert fused.flops == plain.flops - ROWS


def test_backward_is_the_plain_gradient_and_the_scores_once_more():
    plain = costax.analyze(in_plain_jax)(*plain_args()).total
    both = costax.analyze(lambda q, k, v, g: jax.vjp(in_plain_jax, q, k, v)[1](g))(*plain_args(), plain_args()[0]).total
    recomputed = SCORES * SIZE
    # The product P V of the forward pass is dead in the gradient; Q K^T is not, and is in both.
    assert both.macs - SCORES * SIZE == 4 * SCORES * SIZE == backward().macs - recomputed
    assert plain.macs == 2 * SCORES * SIZE


def test_the_layout_changes_nothing():
    def heads_first(x):
        return array(x.shape[0], x.shape[2], x.shape[1], x.shape[3])

    inputs = [heads_first(x) for x in (QUERY, KEY, KEY)]
    assert forward(inputs, [heads_first(QUERY)], layout=BNTH) == forward()


def test_fewer_key_heads_than_query_heads_change_nothing():
    few = array(BATCH, KEYS, 2, SIZE)
    assert forward((QUERY, few, few)) == forward()


def test_a_paged_cache_counts_the_positions_of_its_blocks():
    pages = array(BATCH * 5, 1, HEADS, SIZE)
    assert forward((QUERY, pages, pages)) == forward()


def test_the_kept_log_sum_exp_is_one_logarithm_and_one_addition_a_row():
    difference = forward(outputs=(QUERY, STATISTICS)) - forward()
    assert (difference.transcendentals, difference.flops) == (ROWS, ROWS)


def test_bias_mask_and_dropout_cost_what_they_do_to_each_score():
    bias = forward(variadic_args=(True, False)) - forward()
    assert (bias.flops, bias.ops) == (SCORES, SCORES)
    for hidden in (forward(mask_type=2), forward(sliding_window_length=3)):
        assert (hidden.of_kind(COMPARE), hidden.of_kind(SELECT)) == (SCORES, SCORES)
    dropped = forward(dropout_rate=0.1) - forward()
    assert (dropped.flops, dropped.of_kind(COMPARE)) == (SCORES, SCORES)


def test_the_gradient_of_a_shared_bias_is_a_sum():
    bias = array(1, HEADS, QUERIES, KEYS)
    shared = backward(outputs=(QUERY, KEY, KEY, bias), variadic_args=(True, True)) - backward(
        variadic_args=(True, False)
    )
    assert shared.flops == SCORES - bias.size


@pytest.mark.parametrize("name", ["score_mod", "score_mod_jaxpr"])
def test_a_function_inside_the_kernel_is_an_error_and_not_a_zero(name):
    with pytest.raises(costax.Uncountable, match=name):
        forward(**{name: lambda score: score})


def test_fp8_attention_has_the_same_products_and_softmax():
    def fp8(x):
        return Operand(x.shape, "f8_e4m3fn")

    q, k = fp8(QUERY), fp8(KEY)
    one = array(1, 1, 1, 1, dtype="f32")
    ahead = cost("dot_product_attention_fp8_fwd", (q, k, k), (q, one, one), layout=BTNH, use_causal_mask=False)
    back = cost("dot_product_attention_fp8_bwd", (q, k, k), (q, k, k), layout=BTNH, use_causal_mask=False)
    assert ahead.by_dtype()["f8_e4m3fn*f8_e4m3fn->f32"].macs == forward().macs
    assert back.macs == backward().macs
    assert ahead.transcendentals == back.transcendentals == SCORES
    assert ahead.flops - forward().flops == 4 * (SCORES + q.size)


def test_a_cudnn_fusion_runs_its_function_once_and_keeps_what_is_between_in_registers():
    @fusion.cudnn_fusion
    def product_and_sum(x, y, z):
        return jnp.float32(jax.lax.batch_matmul(jnp.bfloat16(x), y)) + z

    args = [costax.spec(arg) for arg in ("i8[2,4,8]", "bf16[2,8,3]", "f32[2,4,3]")]
    total = costax.analyze(product_and_sum)(*args).total
    assert total.macs == 2 * 4 * 8 * 3
    assert total.flops == 2 * total.macs + 2 * 4 * 3
    assert total.bytes_read == 2 * 4 * 8 + 2 * (2 * 8 * 3) + 4 * (2 * 4 * 3)
    assert total.bytes_written == 4 * (2 * 4 * 3)


# LSTM


def lstm_equation(name, features, hidden, layers, bidirectional, batch=2, steps=5):
    x = array(batch, steps, features, dtype="f32")
    inputs = (x,) if name == "rnn_fwd" else (x, x, x, x)
    return cost(
        name, inputs, (x,), input_size=features, hidden_size=hidden, num_layers=layers, bidirectional=bidirectional
    )


def plain_lstm(features, hidden, layers, bidirectional, batch=2, steps=5):
    """Return jax's reference LSTM and its arguments."""
    directions = 2 if bidirectional else 1
    state = costax.spec(f"f32[{directions * layers},{batch},{hidden}]")
    weights = jax.ShapeDtypeStruct((rnn.get_num_params_in_lstm(features, hidden, layers, bidirectional),), jnp.float32)

    def run(x, h, c, weights, lengths):
        unpacked = rnn.unpack_lstm_weights(weights, features, hidden, layers, bidirectional)
        return rnn.lstm_ref(x, h, c, *unpacked, lengths, features, hidden, layers, 0.0, bidirectional)

    return run, (costax.spec(f"f32[{batch},{steps},{features}]"), state, state, weights, costax.spec(f"i32[{batch}]"))


LSTMS = pytest.mark.parametrize(
    ("features", "hidden", "layers", "bidirectional"), [(16, 32, 1, False), (3, 4, 3, False), (3, 4, 3, True)]
)


@LSTMS
def test_lstm_counts_what_the_reference_counts(features, hidden, layers, bidirectional):
    run, args = plain_lstm(features, hidden, layers, bidirectional)
    plain = costax.analyze(run)(*args).total
    fused = lstm_equation("rnn_fwd", features, hidden, layers, bidirectional)
    assert (fused.macs, fused.flops, fused.transcendentals) == (plain.macs, plain.flops, plain.transcendentals)


@LSTMS
def test_lstm_gradient_has_two_products_for_each_of_the_forward_pass(features, hidden, layers, bidirectional):
    run, args = plain_lstm(features, hidden, layers, bidirectional)

    def gradient(x, h, c, weights, lengths):
        outputs, pullback = jax.vjp(lambda *a: run(*a, lengths), x, h, c, weights)
        return outputs, pullback(outputs)

    both = costax.analyze(gradient)(*args).total
    forward = lstm_equation("rnn_fwd", features, hidden, layers, bidirectional)
    assert lstm_equation("rnn_bwd", features, hidden, layers, bidirectional).macs == both.macs - forward.macs
