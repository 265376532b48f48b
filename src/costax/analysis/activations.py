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
from costax.program.interpreter import Interpreter
from costax.program.tree import Node

KINDS: Final = ("mit", "contractions", "all")


def activations(kind: str, jaxpr: Any, tree: Node, is_parameter: Sequence[bool]) -> Size:
    """Return the elements and bytes of the activations of one kind. Raises InputError for a kind that nobody knows."""
    if kind not in KINDS:
        raise InputError(
            f"Unknown kind of activations {kind!r}.",
            why=f"There are several, and they differ: {', '.join(KINDS)}.",
            cure='Ask for example for activations("contractions"), which fvcore and timm publish.',
        )
    if kind == "all":
        return _folded(tree, lambda node: node.equation is not None and not node.children)
    if kind == "contractions":
        return _folded(tree, lambda node: node.traits.contraction is not None)
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
            f"No peak is defined for activations of kind {kind!r}.",
            why='It is the largest sum of a layer\'s input and output, "mit"; for graphs with skips there is liveness.',
            cure="Ask for peak_activations(), or for peak_bytes.",
        )
    return peak_activations(jaxpr, tree, is_parameter)


def layers(jaxpr: Any, tree: Node, is_parameter: Sequence[bool]) -> Iterator[tuple[Size, Size, Count]]:
    """Yield (input, output, how often) of every layer; parameters do not count as input."""
    finder = _LayerFinder()
    finder.run(
        jaxpr, tree.children, [None if fixed else id(var) for var, fixed in _with_variables(jaxpr, is_parameter)], 1
    )
    yield from finder.layers


class _LayerFinder(Interpreter["int | None", Count]):
    """Finds layers. A value is the identity of an array that depends on the input of the network, else None.

    The context is how often an equation runs.
    """

    def __init__(self) -> None:
        self.layers: list[tuple[Size, Size, Count]] = []

    def literal(self, atom: Any) -> None:
        return None

    def constant(self, var: Any, value: Any) -> None:
        return None

    def equation(self, node: Node, operands: list[int | None], context: Count) -> Sequence[int | None]:
        eqn = node.equation
        inputs = {value: var for value, var in zip(operands, eqn.invars, strict=True) if value is not None}
        if not inputs:
            return [None] * len(eqn.outvars)
        if node.bodies and not all(body.fused for body in node.bodies):
            for body, child in zip(node.bodies, node.children, strict=True):
                sources: list[int | None] = [
                    *body.inputs,
                    *[None] * (len(_jax.opened(body.jaxpr).invars) - len(body.inputs)),
                ]
                inside = [None if source is None else operands[source] for source in sources]
                self.run(body.jaxpr, child.children, inside, context * child.times)
        elif node.traits.contraction is not None or (node.traits.windowed and _pools(eqn)):
            # A product of an array with itself reads it once.
            self.layers.append((sum(map(_size, inputs.values()), Size()), _size(eqn.outvars[0]), context))
        return [id(var) for var in eqn.outvars]


def _with_variables(jaxpr: Any, is_parameter: Sequence[bool]) -> Iterator[tuple[Any, bool]]:
    return zip(_jax.opened(jaxpr).invars, is_parameter, strict=True)


def _pools(eqn: Any) -> bool:
    """Say whether a window is a pooling layer: it shrinks the array, or goes over several axes.

    A window along one axis that keeps the shape is part of a normalisation, such as AlexNet's over channels.
    """
    wide = [n for n in eqn.params["window_dimensions"] if n > 1]
    return len(wide) > 1 or prod(eqn.outvars[0].aval.shape) < prod(eqn.invars[0].aval.shape)


def _inputs(jaxpr: Any, is_parameter: Sequence[bool]) -> Size:
    data = [var for var, fixed in _with_variables(jaxpr, is_parameter) if not fixed]
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
