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
from costax.program.interpreter import Interpreter
from costax.program.regions import called
from costax.program.tree import BACKWARD, FORWARD, RECOMPUTE, Node, Scope
from costax.rules.traits import ContractionKind, Function

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
_POOLS: Final = {Function.MAXIMUM: MAX_POOL, Function.SUM: AVERAGE_POOL, None: MAX_POOL}
# Arithmetic that keeps a value recognisable: a bias that is added, a statistic that is scaled.
_ARITHMETIC: Final = frozenset(
    [
        Function.ADD,
        Function.SUBTRACT,
        Function.MULTIPLY,
        Function.DIVIDE,
        Function.MAXIMUM,
        Function.MINIMUM,
        Function.NEGATE,
        Function.INTEGER_POWER,
        Function.SQUARE,
        Function.POWER,
        Function.SQUARE_ROOT,
        Function.RECIPROCAL_ROOT,
    ]
)
_ATTENTION_MODULES: Final = frozenset(
    {"MultiHeadDotProductAttention", "MultiHeadAttention", "MultiheadAttention", "SelfAttention"}
)


@dataclass(frozen=True, slots=True)
class ToolLayer:
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
    parts: list[ToolLayer] = field(default_factory=list[ToolLayer])


def parts(analysis: Counts) -> list[ToolLayer]:
    """Return the parts of a program, in program order. The analysis must come from a trace and not from a record."""
    program, tree = analysis.program, analysis.tree
    if tree is None or program is None:
        return []
    reader = _Reader(program.kinds)
    known = {parameter.position: parameter.operand.size for parameter in program.parameters or ()}
    jaxpr = _jax.opened(analysis.live)
    inputs = [_Value(_size(v), weight=known.get(i, 0)) for i, v in enumerate(jaxpr.invars)]
    reader.run(analysis.live, tree.children, inputs, _Context())
    return _without_statistics(reader.reading.parts)


class _Context(NamedTuple):
    """Where equations stand, and how often they run."""

    scope: Scope = ()
    direction: str = ""
    times: Count = 1


class _Reader(Interpreter[_Value, _Context]):
    """Reads the layers of a program; values are what is known of each array."""

    def __init__(self, kinds: Mapping[Scope, str]) -> None:
        self.reading = _Reading(kinds)

    def literal(self, atom: Any) -> _Value:
        return _Value(_size(atom))

    def constant(self, var: Any, value: Any) -> _Value:
        return _Value(_size(var))

    def equation(self, node: Node, operands: list[_Value], context: _Context) -> Sequence[_Value]:
        scope, direction = context.scope + node.scope, node.direction or context.direction
        results = _Equation(self, node, _Context(scope, direction, context.times * node.times)).results(operands)
        return [
            value._replace(size=_size(var), rank=len(_jax.operand(var.aval).shape))
            for var, value in zip(node.equation.outvars, results, strict=True)
        ]


class _Equation:
    """One equation where it stands: its scope, direction and how often it runs."""

    def __init__(self, reader: _Reader, node: Node, context: _Context) -> None:
        self.reader, self.reading, self.node = reader, reader.reading, node
        self.scope, self.times = context.scope, context.times
        self.direction = context.direction or FORWARD
        self.eqn, self.traits = node.equation, node.traits

    def results(self, inputs: list[_Value]) -> list[_Value]:
        """Add the part that the equation is, if it is one; return what is known of its outputs."""
        if not self.times:
            return [_Value()] * len(self.eqn.outvars)
        if self.node.bodies:
            return self._bodies(inputs)
        traits, function = self.traits, self.traits.function
        if traits.contraction in (ContractionKind.PRODUCT, ContractionKind.CONVOLUTION):
            return [_Value(product=self._contraction(inputs))]
        if traits.preserves:
            return [inputs[0]] * len(self.eqn.outvars)
        if traits.windowed and function in _POOLS:
            self._add(_POOLS[function], self._size_in(), outputs=self._size_out())
        if function is Function.ACTIVATION:
            self._add(ACTIVATION, self._size_out(), name=self.node.label)
        if function is Function.EXPONENTIAL:
            self._add(SOFTMAX, self._size_out())
        if function is Function.LOOK_UP and inputs[0].weight and len(self._operand(0).shape) == 2:
            self._add(EMBEDDING, self._size_out(), weight=inputs[0].weight)
        if function is Function.SUM and not traits.windowed:
            return [self._reduction(inputs[0])]
        if function in (Function.RECIPROCAL_ROOT, Function.SQUARE_ROOT) and not self._is_update():
            return [inputs[0]._replace(scale=self._size_out(), normed=-1)]
        keeps = traits.elementwise and function in _ARITHMETIC
        return [self._arithmetic(inputs) if keeps else _Value()] * len(self.eqn.outvars)

    def _bodies(self, inputs: list[_Value]) -> list[_Value]:
        call = called(self.node)
        # `jax.nn.relu` and the like are calls that keep the name of the function.
        function = str(self.eqn.params.get("name", "")) if call else ""
        if function in _ACTIVATIONS:
            self._add(ACTIVATION, self._size_out(), name=function)
            return [_Value()] * len(self.eqn.outvars)
        out: list[_Value] = []
        for body, child in zip(self.node.bodies, self.node.children, strict=True):
            given = [
                _Value(_size(v)) if at is None else inputs[at]
                for v, at in zip(_jax.opened(body.jaxpr).invars, _padded(body), strict=True)
            ]
            context = _Context(self.scope + child.scope, self.direction, self.times * child.times)
            results = self.reader.run(body.jaxpr, child.children, given, context)
            out = results if call else out
        return out or [_Value()] * len(self.eqn.outvars)

    def _contraction(self, inputs: list[_Value]) -> int:
        macs = self.node.once.macs * self.times
        weight = max(inputs[0].weight, inputs[1].weight)
        if self.traits.contraction is ContractionKind.CONVOLUTION:
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

    def _arithmetic(self, inputs: list[_Value]) -> _Value:
        """Follow what becomes of 1 / sqrt(variance), and of the values that it scales."""
        size = self._size_out()
        weighty = next((x for x in inputs if x.weight), None)
        product = next((x.product for x in inputs if x.product >= 0), -1)
        if self.traits.function is Function.ADD and weighty and product >= 0:
            convolved = self.reading.parts[product].kind == CONVOLUTION
            self._add(BIAS, size, weight=weighty.weight, of_convolution=convolved)
            return _Value()
        scale = next((x for x in inputs if x.scale), None)
        if scale is not None and self.traits.function in (Function.MULTIPLY, Function.DIVIDE):
            others = [x for x in inputs if x is not scale]
            if all(x.weight or x.size <= 1 for x in others):
                scales = max((x.weight for x in others), default=0)
                return scale._replace(affine=scale.affine or bool(scales), scales=scale.scales + scales)
            if size > scale.scale:
                return _Value(normed=self._norm(scale, size), product=-1)
        normed = next((x.normed for x in inputs if x.normed >= 0), -1)
        if normed >= 0 and weighty and self.traits.function in (Function.MULTIPLY, Function.ADD):
            found = self.reading.parts[normed]
            affine = found.affine or self.traits.function is Function.MULTIPLY
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
        self.reading.parts.append(ToolLayer(kind, self.scope, self.direction, total, fused=fused, **more))
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


def _without_statistics(found: list[ToolLayer]) -> list[ToolLayer]:
    """Leave out the means that norms take: they are no pools."""
    norms = {part.scope for part in found if part.kind in NORMS}
    return [part for part in found if not (part.kind == GLOBAL_POOL and part.scope in norms)]
