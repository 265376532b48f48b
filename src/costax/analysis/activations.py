"""Activations: the number of elements that a program computes, by three definitions.

* `"mit"`: the input of the network and the output of every layer, where a layer is a contraction or a pool.
  Activation functions and normalisation are taken to be in place. Source: MIT 6.5940, lecture 2.
* `"contractions"`: the outputs of products and convolutions. Source: fvcore's ActivationCountAnalysis; timm's table.
* `"all"`: every result of an equation.
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
    """Return the elements and bytes of the activations of one kind. Raises InputError for an unknown kind."""
    if kind not in KINDS:
        raise InputError(
            f"Unknown kind of activations {kind!r}.",
            why=f"Activations have several definitions with different numbers: {', '.join(KINDS)}.",
            cure='Use one of them, for example activations("contractions"), the number that fvcore and timm report.',
        )
    if kind == "all":
        return _sum_of_results(tree, lambda node: node.equation is not None and not node.children)
    if kind == "contractions":
        return _sum_of_results(tree, lambda node: node.contraction is not None)
    outputs = (_times(output, times) for _, output, times in layers(jaxpr, tree, is_parameter))
    return sum(outputs, _inputs(jaxpr, is_parameter))


def peak_activations(jaxpr: Any, tree: Node, is_parameter: Sequence[bool]) -> Size:
    """Return the largest sum of a layer's input and output. Source: MIT 6.5940, lecture 2."""
    sums = [layer_input + output for layer_input, output, _ in layers(jaxpr, tree, is_parameter)]
    return max(sums, key=lambda size: size.elements, default=_inputs(jaxpr, is_parameter))


def checked_peak(kind: str, jaxpr: Any, tree: Node, is_parameter: Sequence[bool]) -> Size:
    """Return the peak of the activations of a kind. Raises InputError for any kind but "mit"."""
    if kind != "mit":
        raise InputError(
            f"No peak is defined for activations of kind {kind!r}.",
            why='The peak of "mit" is the largest sum of the input and output of a layer; other kinds have no layers.',
            cure='Use peak_activations("mit"), or peak_bytes for the largest sum of all live buffers.',
        )
    return peak_activations(jaxpr, tree, is_parameter)


def layers(jaxpr: Any, tree: Node, is_parameter: Sequence[bool]) -> Iterator[tuple[Size, Size, Count]]:
    """Yield (input, output, number of runs) of every layer. Parameters are no inputs."""
    finder = _LayerFinder()
    inputs = [None if parameter else id(var) for var, parameter in _with_variables(jaxpr, is_parameter)]
    finder.run(jaxpr, tree.children, inputs, 1)
    yield from finder.layers


class _LayerFinder(Interpreter["int | None", Count]):
    """Finds layers. A value is the id of an array that depends on the input of the network, else None.

    The context is the number of runs of an equation.
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
                inner = [None if source is None else operands[source] for source in sources]
                self.run(body.jaxpr, child.children, inner, context * child.times)
        elif node.contraction is not None or (node.traits.windowed and _pools(eqn)):
            # `inputs` has an array once, so a product of an array with itself has one input.
            self.layers.append((sum(map(_size, inputs.values()), Size()), _size(eqn.outvars[0]), context))
        return [id(var) for var in eqn.outvars]


def _with_variables(jaxpr: Any, is_parameter: Sequence[bool]) -> Iterator[tuple[Any, bool]]:
    return zip(_jax.opened(jaxpr).invars, is_parameter, strict=True)


def _pools(eqn: Any) -> bool:
    """Say whether a windowed reduction is a pool: it has a smaller result, or a window over several axes.

    A window along one axis that keeps the shape is part of a normalisation, such as AlexNet's over channels.
    """
    wide = [n for n in eqn.params["window_dimensions"] if n > 1]
    return len(wide) > 1 or prod(eqn.outvars[0].aval.shape) < prod(eqn.invars[0].aval.shape)


def _inputs(jaxpr: Any, is_parameter: Sequence[bool]) -> Size:
    inputs = [var for var, parameter in _with_variables(jaxpr, is_parameter) if not parameter]
    # A random key, for dropout, is not an input of the network.
    return sum((_size(v) for v in inputs if not _is_key(_jax.operand(v.aval))), Size())


def _is_key(operand: Any) -> bool:
    return operand.dtype.startswith("key<") or (operand.dtype == "u32" and operand.shape in ((2,), (4,)))


def _size(var: Any) -> Size:
    operand = _jax.operand(var.aval)
    return Size(operand.size, operand.nbytes)


def _sum_of_results(root: Node, counts: Callable[[Node], bool]) -> Size:
    """Return the sum of the results of the equations that count, as often as they run.

    A node that several equations share is summed once and then multiplied.
    """
    sums: dict[int, Size] = {}

    def once(node: Node) -> Size:
        if id(node) not in sums:
            own = sum(map(_size, node.equation.outvars), Size()) if counts(node) else Size()
            below = (_times(once(child), child.times) for child in node.children if not child.fused)
            sums[id(node)] = sum(below, own)
        return sums[id(node)]

    return once(root)


def _times(size: Size, times: Count) -> Size:
    return Size(size.elements * times, size.nbytes * times)
