"""Parts: a program as other tools see it, as layers and functions, read from its equations.

Other counters hook modules and functions: a convolution, a bias, a batch norm, a ReLU, a pool. Here these are found in
the jaxpr by what they do. A value is followed through what only moves or casts it, so that an addition is known as the
bias of a convolution, and a multiplication by 1 / sqrt(variance) as a norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from costax import _jax
from costax.analysis.counts import Counts
from costax.core.cost import Count
from costax.program.tree import BACKWARD, FORWARD, RECOMPUTE, Node, Scope

CONVOLUTION, LINEAR, ATTENTION, PRODUCT = "convolutions", "linear layers", "attention products", "other products"
BIAS, ACTIVATION, SOFTMAX, EMBEDDING = "biases", "activation functions", "softmax", "embeddings"
BATCH_NORM, LAYER_NORM, GROUP_NORM = "batch norms", "layer norms", "group norms"
MAX_POOL, AVERAGE_POOL, GLOBAL_POOL = "max pools", "average pools", "global pools"
CONTRACTIONS: Final = (CONVOLUTION, LINEAR, ATTENTION, PRODUCT)
NORMS: Final = (BATCH_NORM, LAYER_NORM, GROUP_NORM)

# Functions that jax and the libraries keep as one call, by its name.
_ACTIVATIONS: Final = frozenset({"celu", "elu", "gelu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh"}) | {
    *("leaky_relu", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softplus"),
    *("squareplus", "swish"),
}
# Functions that jax inlines, by what is left of them.
_TRACES: Final = frozenset({"erf", "erfc", "tanh", "logistic"})
_CALLS: Final = frozenset({"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"})
_MOVES: Final = frozenset({"broadcast_in_dim", "convert_element_type", "copy", "copy_p", "device_put"}) | {
    *("expand_dims", "optimization_barrier", "pvary", "reduce_precision", "reshape", "rev", "sharding_constraint"),
    *("slice", "split", "squeeze", "transpose"),
}
_SMALL: Final = frozenset({"add", "sub", "mul", "div", "max", "min", "neg", "integer_pow", "square", "pow"}) | {
    *("rsqrt", "sqrt", "stop_gradient"),
}
_POOLS: Final = {"reduce_window_max": MAX_POOL, "reduce_window_sum": AVERAGE_POOL, "reduce_window": MAX_POOL}
_ATTENTION_MODULES: Final = frozenset(
    {"MultiHeadDotProductAttention", "MultiHeadAttention", "MultiheadAttention", "SelfAttention"}
)


@dataclass(frozen=True, slots=True)
class Part:
    """One layer or function of a program, as often as it runs.

    count: MACs of a contraction; elements of the output of a bias, an activation or an embedding, of the input of a
    norm or a pool. outputs: elements of the output. groups: of a convolution. weight: elements of the parameter that a
    contraction, a bias, an embedding or a norm applies, where it runs once. affine: a norm that scales.
    fused: it lies in a library's attention module, where other tools see one module. of_convolution: the bias is.
    name: of an activation function.
    """

    kind: str
    scope: Scope
    direction: str
    count: Count
    outputs: Count = 0
    groups: int = 1
    weight: Count = 0
    affine: bool = False
    training: bool = False
    fused: bool = False
    of_convolution: bool = False
    name: str = ""


class _Value(NamedTuple):
    """What is known of a value. weight: elements of the parameter that it is, moved, or 0. product: the part that made
    it, a contraction, or -1. scale: size of the 1 / sqrt(variance) that it is, or 0; affine, scales: it was multiplied
    by a parameter of so many elements. axes: it comes from a reduction over these, of an array of this rank. normed:
    the norm that it is the result of, or -1. size: its elements.
    """

    size: Count = 0
    weight: Count = 0
    product: int = -1
    scale: Count = 0
    axes: tuple[int, ...] = ()
    rank: int = 0
    affine: bool = False
    scales: Count = 0
    normed: int = -1


@dataclass(slots=True)
class _Reading:
    kinds: Mapping[Scope, str]
    parts: list[Part] = field(default_factory=list[Part])


def parts(analysis: Counts) -> list[Part]:
    """Return the parts of a program, in program order. The analysis must come from a trace and not from a record."""
    program, tree = analysis.program, analysis.tree
    if tree is None or program is None:
        return []
    reading = _Reading(program.kinds)
    known = {parameter.position: parameter.operand.size for parameter in program.parameters or ()}
    jaxpr = _jax.opened(analysis.live)
    inputs = [_Value(_size(v), weight=known.get(i, 0)) for i, v in enumerate(jaxpr.invars)]
    _read(reading, analysis.live, tree.children, inputs, (), "", 1)
    return _without_statistics(reading.parts)


def _read(
    reading: _Reading,
    jaxpr: Any,
    nodes: Sequence[Node],
    inputs: Sequence[_Value],
    scope: Scope,
    direction: str,
    times: Count,
) -> list[_Value]:
    """Read the equations of a jaxpr; return what is known of its outputs."""
    opened = _jax.opened(jaxpr)
    known: dict[Any, _Value] = dict(zip(opened.invars, inputs, strict=True))

    def value(atom: Any) -> _Value:
        return _Value(_size(atom)) if _jax.is_literal(atom) else known.get(atom) or _Value(_size(atom))

    for node in nodes:
        eqn = node.equation
        found = _Equation(reading, node, scope + node.scope, node.direction or direction, times * node.times)
        results = found.results([value(atom) for atom in eqn.invars])
        for var, result in zip(eqn.outvars, results, strict=True):
            known[var] = result._replace(size=_size(var), rank=len(_jax.operand(var.aval).shape))
    return [value(atom) for atom in opened.outvars]


class _Equation:
    """One equation where it stands: its scope, direction and how often it runs."""

    def __init__(self, reading: _Reading, node: Node, scope: Scope, direction: str, times: Count) -> None:
        self.reading, self.node, self.scope, self.times = reading, node, scope, times
        self.direction = direction or FORWARD
        self.name, self.eqn = node.label, node.equation

    def results(self, inputs: list[_Value]) -> list[_Value]:
        """Add the part that the equation is, if it is one; return what is known of its outputs."""
        if not self.times:
            return [_Value()] * len(self.eqn.outvars)
        if self.node.bodies:
            return self._bodies(inputs)
        if self.name in ("dot_general", "conv_general_dilated"):
            return [_Value(product=self._contraction(inputs))]
        if self.name in _MOVES:
            return [inputs[0]] * len(self.eqn.outvars)
        if self.name in _POOLS:
            self._add(_POOLS[self.name], self._size_in(), outputs=self._size_out())
        if self.name in _TRACES:
            self._add(ACTIVATION, self._size_out(), name=self.name)
        if self.name == "exp":
            self._add(SOFTMAX, self._size_out())
        if self.name == "gather" and inputs[0].weight and len(self._operand(0).shape) == 2:
            self._add(EMBEDDING, self._size_out(), weight=inputs[0].weight)
        if self.name == "reduce_sum":
            return [self._reduction(inputs[0])]
        if self.name in ("rsqrt", "sqrt") and not self._is_update():
            return [inputs[0]._replace(scale=self._size_out(), normed=-1)]
        return [self._elementwise(inputs) if self.name in _SMALL else _Value()] * len(self.eqn.outvars)

    def _bodies(self, inputs: list[_Value]) -> list[_Value]:
        called = str(self.eqn.params.get("name", "")) if self.name in _CALLS else ""
        if called in _ACTIVATIONS:
            self._add(ACTIVATION, self._size_out(), name=called)
            return [_Value()] * len(self.eqn.outvars)
        out: list[_Value] = []
        for body, child in zip(self.node.bodies, self.node.children, strict=True):
            given = [
                _Value(_size(v)) if at is None else inputs[at]
                for v, at in zip(_jax.opened(body.jaxpr).invars, _padded(body), strict=True)
            ]
            times = self.times * child.times
            found = _read(
                self.reading, body.jaxpr, child.children, given, self.scope + child.scope, self.direction, times
            )
            out = found if len(found) == len(self.eqn.outvars) and self.name in _CALLS else out
        return out or [_Value()] * len(self.eqn.outvars)

    def _contraction(self, inputs: list[_Value]) -> int:
        macs = self.node.once.macs * self.times
        weight = max(inputs[0].weight, inputs[1].weight)
        if self.name == "conv_general_dilated":
            params = self.eqn.params
            groups = max(params["feature_group_count"], params["batch_group_count"])
            return self._add(CONVOLUTION, macs, outputs=self._size_out(), groups=groups, weight=weight)
        (_, (batch, _)) = self.eqn.params["dimension_numbers"]
        kind = LINEAR if weight else ATTENTION if batch else PRODUCT
        return self._add(kind, macs, outputs=self._size_out(), weight=weight)

    def _reduction(self, operand: _Value) -> _Value:
        shape, axes = self._operand(0).shape, tuple(self.eqn.params["axes"])
        if len(shape) >= 4 and len(axes) >= len(shape) - 2 and 0 not in axes:
            self._add(GLOBAL_POOL, self._size_in(), outputs=self._size_out())
        return _Value(axes=axes, rank=len(shape), normed=operand.normed)

    def _elementwise(self, inputs: list[_Value]) -> _Value:
        """Follow what becomes of 1 / sqrt(variance), and of the values that it scales."""
        size = self._size_out()
        weighty = next((x for x in inputs if x.weight), None)
        product = next((x.product for x in inputs if x.product >= 0), -1)
        if self.name == "add" and weighty and product >= 0:
            convolved = self.reading.parts[product].kind == CONVOLUTION
            self._add(BIAS, size, weight=weighty.weight, of_convolution=convolved)
            return _Value()
        scale = next((x for x in inputs if x.scale), None)
        if scale is not None and self.name in ("mul", "div"):
            others = [x for x in inputs if x is not scale]
            if all(x.weight or x.size <= 1 for x in others):
                scales = max((x.weight for x in others), default=0)
                return scale._replace(affine=scale.affine or bool(scales), scales=scale.scales + scales)
            if size > scale.scale:
                return _Value(normed=self._norm(scale, size), product=-1)
        normed = next((x.normed for x in inputs if x.normed >= 0), -1)
        if normed >= 0 and weighty and self.name in ("mul", "add"):
            found = self.reading.parts[normed]
            affine = found.affine or self.name == "mul"
            self.reading.parts[normed] = replace(found, affine=affine, weight=found.weight + weighty.weight)
        small = next((x for x in inputs if x.axes or x.scale), None)
        kept = small if small is not None and size <= max(small.size, 1) else _Value()
        return kept._replace(normed=normed)

    def _norm(self, scale: _Value, size: Count) -> int:
        training = 0 in scale.axes
        last = scale.axes == (scale.rank - 1,)
        kind = BATCH_NORM if training or not scale.axes else LAYER_NORM if last else GROUP_NORM
        return self._add(kind, size, outputs=size, affine=scale.affine, training=training, weight=scale.scales)

    def _add(self, kind: str, count: Count, **more: Any) -> int:
        contraction = kind in CONTRACTIONS
        fused = any(self.reading.kinds.get(self.scope[:n]) in _ATTENTION_MODULES for n in range(1, len(self.scope) + 1))
        more = {name: x * self.times if name == "outputs" else x for name, x in more.items()}
        total = count if contraction else count * self.times
        self.reading.parts.append(Part(kind, self.scope, self.direction, total, fused=fused, **more))
        return len(self.reading.parts) - 1

    def _is_update(self) -> bool:
        return self.direction not in (FORWARD, BACKWARD, RECOMPUTE)

    def _operand(self, number: int) -> Any:
        return _jax.operand(self.eqn.invars[number].aval)

    def _size_in(self) -> Count:
        return _size(self.eqn.invars[0])

    def _size_out(self) -> Count:
        return _size(self.eqn.outvars[0])


def _size(atom: Any) -> Count:
    return _jax.operand(atom.aval).size


def _padded(body: Any) -> Iterator[int | None]:
    """Yield which input of the equation each input of the body is."""
    inputs = body.inputs
    for position in range(len(_jax.opened(body.jaxpr).invars)):
        yield inputs[position] if position < len(inputs) else None


def _without_statistics(found: list[Part]) -> list[Part]:
    """Leave out the means that norms take: they are no pools."""
    norms = {part.scope for part in found if part.kind in NORMS}
    return [part for part in found if not (part.kind == GLOBAL_POOL and part.scope in norms)]
