"""Activations: how many elements a program produces, under named definitions.

* `"mit"`: the input of the network and the output of every layer, a layer being a contraction or a pooling window.
  Activation functions and normalisation are done in place. Source: MIT 6.5940, lecture 2.
* `"contractions"`: the outputs of products and convolutions. Source: fvcore's ActivationCountAnalysis; timm's table.
* `"all"`: every element that an equation produces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, Final

from costax import _jax
from costax.core.cost import Count
from costax.core.size import Size
from costax.errors import InputError
from costax.program.tree import Node

CONTRACTIONS: Final = frozenset(
    {"dot_general", "conv_general_dilated", "ragged_dot", "ragged_dot_general", "scaled_dot"}
)
_WINDOWS: Final = frozenset({"reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"})
KINDS: Final = ("mit", "contractions", "all")


def activations(kind: str, jaxpr: Any, tree: Node, is_parameter: Sequence[bool]) -> Size:
    """Return the elements and bytes of the activations of one kind. Raises InputError for a kind that nobody knows."""
    if kind not in KINDS:
        raise InputError(
            f"activations({kind!r}) names no definition.",
            why=f"There are several, and they differ: {', '.join(KINDS)}.",
            cure='Ask for example for activations("contractions"), which fvcore and timm publish.',
        )
    if kind == "all":
        return _folded(tree, lambda node: node.equation is not None and not node.children)
    if kind == "contractions":
        return _folded(tree, lambda node: node.label in CONTRACTIONS)
    made = (_times(after, times) for _, after, times in layers(jaxpr, tree, is_parameter))
    return sum(made, _inputs(jaxpr, is_parameter))


def peak_activations(jaxpr: Any, tree: Node, is_parameter: Sequence[bool]) -> Size:
    """Return the largest sum of a layer's input and output. Source: MIT 6.5940, lecture 2."""
    sums = [before + after for before, after, _ in layers(jaxpr, tree, is_parameter)]
    return max(sums, key=lambda size: size.elements, default=_inputs(jaxpr, is_parameter))


def checked_peak(kind: str, jaxpr: Any, tree: Node, is_parameter: Sequence[bool]) -> Size:
    """Return the peak of a kind that has one. Raises InputError for another."""
    if kind != "mit":
        raise InputError(
            f"peak_activations({kind!r}) names no definition.",
            why='It is the largest sum of a layer\'s input and output, "mit"; for graphs with skips there is liveness.',
            cure="Ask for peak_activations(), or for peak_bytes.",
        )
    return peak_activations(jaxpr, tree, is_parameter)


def layers(jaxpr: Any, tree: Node, is_parameter: Sequence[bool]) -> Iterator[tuple[Size, Size, int]]:
    """Yield (input, output, how often) of every layer: of its operands those that are no parameters."""
    inner = _jax.opened(jaxpr)
    data = {var for var, fixed in zip(inner.invars, is_parameter, strict=True) if not fixed}
    yield from _layers(tree.children, data, 1)


def _layers(nodes: Sequence[Node], data: set[Any], times: int) -> Iterator[tuple[Size, Size, int]]:
    """Go through equations; `data` are the variables that depend on the input of the network, and grows."""
    for node in nodes:
        eqn = node.equation
        given = [v for v in eqn.invars if not _jax.is_literal(v) and v in data]
        if not given:
            continue
        if node.bodies and not all(body.fused for body in node.bodies):
            for body, child in zip(node.bodies, node.children, strict=True):
                invars = _jax.opened(body.jaxpr).invars
                passed = {
                    v
                    for v, i in zip(invars, body.inputs, strict=False)
                    if i is not None and eqn.invars[i] in _Set(given)
                }
                yield from _layers(child.children, passed, times * child.times)
        elif node.label in CONTRACTIONS or (node.label in _WINDOWS and _pools(eqn)):
            yield sum(map(_size, dict.fromkeys(given)), Size()), _size(eqn.outvars[0]), times
        data.update(eqn.outvars)


class _Set:
    """Variables by identity: a literal cannot be hashed."""

    def __init__(self, members: Sequence[Any]) -> None:
        self._ids = set(map(id, members))

    def __contains__(self, member: object) -> bool:
        return id(member) in self._ids


def _pools(eqn: Any) -> bool:
    """Say whether a window is a pooling layer: it shrinks the array, or goes over several axes.

    A window along one axis that keeps the shape is part of a normalisation, such as AlexNet's over channels.
    """
    wide = [n for n in eqn.params["window_dimensions"] if n > 1]
    return len(wide) > 1 or prod(eqn.outvars[0].aval.shape) < prod(eqn.invars[0].aval.shape)


def _inputs(jaxpr: Any, is_parameter: Sequence[bool]) -> Size:
    inner = _jax.opened(jaxpr)
    data = [v for v, fixed in zip(inner.invars, is_parameter, strict=True) if not fixed]
    # A key is no picture: it steers dropout.
    return sum((_size(v) for v in data if not _is_key(_jax.operand(v.aval))), Size())


def _is_key(operand: Any) -> bool:
    return operand.dtype.startswith("key<") or (operand.dtype == "u32" and operand.shape in ((2,), (4,)))


def _size(var: Any) -> Size:
    operand = _jax.operand(var.aval)
    return Size(operand.size, operand.nbytes)


def _folded(root: Node, counts: Callable[[Node], bool]) -> Size:
    """Sum the outputs of the equations that count; a body that several equations share is summed once."""
    memo: dict[int, Size] = {}

    def once(node: Node) -> Size:
        if id(node) not in memo:
            own = sum(map(_size, node.equation.outvars), Size()) if counts(node) else Size()
            below = (_times(once(child), child.times) for child in node.children if not child.fused)
            memo[id(node)] = sum(below, own)
        return memo[id(node)]

    return once(root)


def _times(size: Size, times: Count) -> Size:
    return Size(size.elements * times, size.nbytes * times)
