"""The sizes of cuDNN's fused attention, on which its time depends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from costax.core.cost import Count

if TYPE_CHECKING:
    from costax.program.regions import Op

# jax.nn.dot_product_attention: AttentionLayout.BNTH.value; the other one is BTNH.
_HEADS_FIRST: Final = 1
# cudnn.MaskType: causal, and causal with padding.
_CAUSAL: Final = (2, 3)


class FusedAttention(NamedTuple):
    """A fused attention: how many queries meet how many keys, in how many heads of which size."""

    batch: Count
    queries: Count
    keys: Count
    heads: Count
    kv_heads: Count
    size: Count
    causal: bool
    backward: bool


def fused_attention(op: Op) -> FusedAttention | None:
    """Return the sizes of an op that is a fused attention; None for any other."""
    if not op.name.startswith("dot_product_attention"):
        return None
    params, (query, key) = op.equation.params, (var.aval.shape for var in op.equation.invars[:2])
    if params["layout"] == _HEADS_FIRST:
        (batch, heads, queries, size), (_, kv_heads, keys, _) = query, key
    else:
        (batch, queries, heads, size), (_, keys, kv_heads, _) = query, key
    mask: Any = params.get("mask_type")
    causal = bool(params.get("use_causal_mask")) or getattr(mask, "value", mask) in _CAUSAL
    return FusedAttention(batch, queries, keys, heads, kv_heads, size, causal, "_bwd" in op.name)
