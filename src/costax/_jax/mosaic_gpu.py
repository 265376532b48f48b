"""Primitives of Mosaic GPU kernels: which parts of their references they read and write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax._src.state import types as _states

from costax.core.equation import Operand

# By primitive: the parameters that say how the parts of its references are selected. The selectors of all references
# follow the other operands, in this order, and behind them a condition if the user gave one.
_TREES: Mapping[str, Sequence[str]] = {
    "copy_gmem_to_smem": ("src_transforms_treedef", "dst_transforms_treedef", "barrier_transforms_treedef"),
    "copy_smem_to_gmem": ("src_transforms_treedef", "dst_transforms_treedef"),
    "async_prefetch": ("ref_transforms_treedef",),
    "async_copy_scales_to_tmem": ("smem_tree", "tmem_tree"),
    "async_copy_smem_to_tmem": ("smem_tree", "tmem_tree"),
    "async_copy_sparse_metadata_to_tmem": ("smem_tree", "tmem_tree"),
    "wgmma": ("acc_transforms_tree", "a_transforms_tree", "b_transforms_tree"),
    "wgmma_ref": ("acc_transforms_tree", "a_transforms_tree", "b_transforms_tree"),
    "tcgen05_mma": (
        "acc_transforms_tree",
        "a_transforms_tree",
        "b_transforms_tree",
        "barrier_transforms_tree",
        "a_scale_transforms_tree",
        "b_scale_transforms_tree",
        "a_sparse_metadata_transforms_tree",
    ),
}
# Of more references no rule asks for the part.
_MOST = 3


def selects_parts(name: str) -> bool:
    """Say whether a primitive selects parts of its references."""
    return name in _TREES


def parts(eqn: Any, operand: Callable[[Any], Operand]) -> tuple[Operand, ...]:
    """Return the parts of the first references of an equation, as arrays, in their order.

    operand: returns the shape and dtype of an abstract value.
    """
    trees: list[Any] = [eqn.params.get(name) for name in _TREES[eqn.primitive.name]]
    numbers = [0 if tree is None else int(tree.num_leaves) for tree in trees]
    avals = [var.aval for var in eqn.invars]
    start = len(avals) - sum(numbers) - bool(eqn.params.get("has_user_predicate"))
    selected: list[Operand] = []
    for aval, tree, number in zip(avals[:_MOST], trees, numbers, strict=False):
        transforms = () if tree is None else tree.unflatten(avals[start : start + number])
        selected.append(_part(aval, operand(aval), tuple(transforms)))
        start += number
    return tuple(selected)


def copies_of_one_part(params: Mapping[str, Any]) -> Sequence[str]:
    """Return the axes along which blocks share one read of global memory: each of them reads a part of it."""
    replicated = "REPLICATED" in str(params.get("leader_tracked")).upper()
    return () if replicated else tuple(params.get("collective_axes") or ())


def _part(aval: Any, whole: Operand, transforms: tuple[Any, ...]) -> Operand:
    if not transforms:
        return whole
    view: Any = _states.TransformedRef(aval, transforms)
    return Operand(tuple(view.shape), whole.dtype)
