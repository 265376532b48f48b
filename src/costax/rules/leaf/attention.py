"""Fused attention of cuDNN: one primitive for two products and the softmax between them.

The count is that of attention in plain jax, in which every query position is multiplied with every key position. Masks,
sliding windows and sequence lengths do not reduce it, and the tiles of the kernel do not matter.
"""

from __future__ import annotations

from typing import NamedTuple

from costax.core import dtypes
from costax.core.cost import Cost, Count
from costax.core.equation import Equation, Operand
from costax.errors import Uncountable
from costax.rules.registry import cost_rule
from costax.rules.traits import OPAQUE

# jax.nn.dot_product_attention: AttentionLayout.BNTH.value; the other one is BTNH.
_HEADS_FIRST = 1


@cost_rule("dot_product_attention_fwd", "dot_product_attention_fwd_wrapper", traits=OPAQUE)
def dot_product_attention_fwd(eqn: Equation) -> Cost:
    """Two products, Q K^T and P V, and a softmax over the keys for each query position and head.

    With s = batch * heads * queries * keys scores and r = batch * heads * queries rows:
    macs = s * (query head size + value head size), accumulated in f32. Arithmetic in f32: 3 a score (scale, subtract
    the maximum, divide), 2*(s - r) for the maxima and the sums, 1 a score for a bias; 1 transcendental a score (exp),
    and 1 a row with an addition where the log-sum-exp is saved for the gradient; 1 conversion of each probability to
    V's dtype. A mask: 1 comparison and 1 selection a score. Dropout: 1 comparison and 1 multiplication a score; random
    bits are generated in the kernel and not counted. Source: FlashAttention-2 (arXiv:2307.08691), algorithm 1.
    XLA: a custom call `__cudnn$fmha...`, -1 FLOP.
    """
    a = _attention(eqn)
    forward = a.products(1, 1) + _softmax(a) + _bias_mask_dropout(eqn, a)
    saves_sums = len(eqn.outputs) > 1
    return forward + (Cost.transcendental("f32", a.rows) + Cost.arithmetic("f32", a.rows) if saves_sums else Cost())


@cost_rule("dot_product_attention_bwd", "dot_product_attention_bwd_wrapper", traits=OPAQUE)
def dot_product_attention_bwd(eqn: Equation) -> Cost:
    """Five products: Q K^T again, dV = P^T dO, dP = dO V^T, dQ = dS K, dK = dS^T Q.

    With s scores and r rows as forward: macs = s * (3 * query head size + 2 * value head size). Arithmetic in f32: 5 a
    score (scale, subtract the log-sum-exp, subtract the row's dO . O, multiply by P, scale), 1 a score for a bias and
    s - |dbias| additions for its gradient, and 2 * |dO| - r for dO . O; 1 transcendental a score (exp); 2 conversions a
    score (P and dS). Masks and dropout as forward. Source: FlashAttention-2 (arXiv:2307.08691), algorithm 2.
    XLA: a custom call `__cudnn$fmha...Backward`, -1 FLOP.
    """
    a = _attention(eqn)
    dbias = a.scores - eqn.outputs[3].size if len(eqn.outputs) > 3 else 0
    return a.products(3, 2) + _softmax_gradient(a) + _bias_mask_dropout(eqn, a) + Cost.arithmetic("f32", dbias)


@cost_rule("dot_product_attention_fp8_fwd", "dot_product_attention_fp8_fwd_wrapper", traits=OPAQUE)
def dot_product_attention_fp8_fwd(eqn: Equation) -> Cost:
    """Attention on fp8 operands: the cost of `dot_product_attention_fwd`, and the scaling of fp8.

    In addition to the products and the softmax, 4 operations for each score and for each output element: descale,
    scale, absolute value, running maximum. Source: the operands that cuDNN's fp8 graph takes (descale_q ... amax_o).
    XLA: a custom call `__cudnn$fmhaSoftmaxF8`, -1 FLOP.
    """
    a = _attention(eqn)
    saves_sums = len(eqn.outputs) > 3
    return (
        a.products(1, 1)
        + _softmax(a)
        + _masking(eqn.params["use_causal_mask"], a)
        + Cost.arithmetic("f32", 4 * (a.scores + eqn.out.size))
        + (Cost.transcendental("f32", a.rows) + Cost.arithmetic("f32", a.rows) if saves_sums else Cost())
    )


@cost_rule("dot_product_attention_fp8_bwd", "dot_product_attention_fp8_bwd_wrapper", traits=OPAQUE)
def dot_product_attention_fp8_bwd(eqn: Equation) -> Cost:
    """The five products of `dot_product_attention_bwd` on fp8 operands, and the scaling of fp8.

    In addition to the cost of that rule, 6 operations for each score (descale and scale P; descale dP, scale it,
    absolute value, running maximum) and 4 for each element of dQ, dK and dV (descale, scale, absolute value, running
    maximum).
    XLA: a custom call `__cudnn$fmhaSoftmaxBackwardF8`, -1 FLOP.
    """
    a = _attention(eqn)
    gradients = sum(x.size for x in eqn.outputs[:3])
    return (
        a.products(3, 2)
        + _softmax_gradient(a)
        + _masking(eqn.params["use_causal_mask"], a)
        + Cost.arithmetic("f32", 6 * a.scores + 4 * gradients)
    )


class _Attention(NamedTuple):
    """The sizes of an attention. scores: batch * heads * queries * keys. rows: batch * heads * queries."""

    scores: Count
    rows: Count
    query_size: Count
    value_size: Count
    dtype: str

    def products(self, over_queries: int, over_values: int) -> Cost:
        """Return the cost of so many products over the head size of the queries, and over that of the values."""
        dtype = dtypes.mixed(self.dtype, self.dtype, accumulator="f32")
        return Cost.macs_of(dtype, self.scores * (over_queries * self.query_size + over_values * self.value_size))


def _attention(eqn: Equation) -> _Attention:
    for name in ("score_mod", "score_mod_jaxpr"):
        if eqn.params.get(name) is not None:
            raise Uncountable(f"runs the user's {name} inside the kernel, whose cost is not in the program")
    query, key, value = eqn.inputs[:3]
    batch, queries, heads = _extents(query, eqn.params["layout"])
    # A paged cache holds (blocks, positions in a block); all blocks together are batch * keys positions.
    blocks, positions, _ = _extents(key, eqn.params["layout"])
    rows = batch * heads * queries
    return _Attention(heads * queries * blocks * positions, rows, query.shape[3], value.shape[3], query.dtype)


def _extents(x: Operand, layout: int) -> tuple[Count, Count, Count]:
    batch, first, second, _ = x.shape
    return (batch, second, first) if layout == _HEADS_FIRST else (batch, first, second)


def _softmax(a: _Attention) -> Cost:
    reductions = 2 * (a.scores - a.rows) if a.scores else 0
    return Cost.sum(
        (
            Cost.arithmetic("f32", 3 * a.scores + reductions),
            Cost.transcendental("f32", a.scores),
            Cost.convert(a.dtype, a.scores if a.dtype != "f32" else 0),
        )
    )


def _softmax_gradient(a: _Attention) -> Cost:
    row_sums = 2 * a.rows * a.value_size - a.rows if a.value_size else 0
    return Cost.sum(
        (
            Cost.arithmetic("f32", 5 * a.scores + row_sums),
            Cost.transcendental("f32", a.scores),
            Cost.convert(a.dtype, 2 * a.scores if a.dtype != "f32" else 0),
        )
    )


def _bias_mask_dropout(eqn: Equation, a: _Attention) -> Cost:
    """Return the cost of bias, mask and dropout, where the equation has them."""
    has_bias, _ = eqn.params["variadic_args"]
    mask = eqn.params["mask_type"]
    masked = bool(getattr(mask, "value", mask)) or bool(eqn.params["sliding_window_length"])
    dropped = a.scores if eqn.params["dropout_rate"] else 0
    return Cost.sum(
        (
            Cost.arithmetic("f32", (a.scores if has_bias else 0) + dropped),
            Cost.compare("f32", dropped),
            _masking(masked, a),
        )
    )


def _masking(masked: bool, a: _Attention) -> Cost:
    return Cost.compare("i32", a.scores) + Cost.select("f32", a.scores) if masked else Cost()
