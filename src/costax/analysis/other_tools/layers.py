"""Layers: the layers and functions of a program as other tools count them, recognised in its equations.

Other tools hook modules and functions: a convolution, a bias, a batch norm, a ReLU, a pool. costax recognises them in
the jaxpr by their arithmetic: an addition of a parameter to the result of a convolution is a bias, a multiplication by
1 / sqrt(variance) is a norm. Values are followed through equations that only move or cast them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Final, NamedTuple

from costax import _jax
from costax.analysis.counts import Counts
from costax.analysis.other_tools.recurrent import CELL_CLASSES, CELL_OPERATIONS, RECURRENT, MatrixProduct, recognised
from costax.core.cost import Count
from costax.program.calls import called
from costax.program.frameworks import Modules
from costax.program.interpreter import Interpreter
from costax.program.trace import Program
from costax.program.tree import BACKWARD, FORWARD, RECOMPUTE, Node, Scope
from costax.rules.traits import ContractionKind, Function

CONVOLUTION, LINEAR, ATTENTION, PRODUCT = "convolutions", "linear layers", "attention products", "other products"
BIAS, ACTIVATION, SOFTMAX, EMBEDDING = "biases", "activation functions", "softmax", "embeddings"
BATCH_NORM, LAYER_NORM, GROUP_NORM = "batch norms", "layer norms", "group norms"
MAX_POOL, AVERAGE_POOL, GLOBAL_POOL = "max pools", "average pools", "global pools"
CONTRACTIONS: Final = (CONVOLUTION, LINEAR, ATTENTION, PRODUCT, *RECURRENT)
NORMS: Final = (BATCH_NORM, LAYER_NORM, GROUP_NORM)

# Functions that are one call in the jaxpr, by the name of the call.
_ACTIVATIONS: Final = frozenset({"celu", "elu", "gelu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh"}) | {
    *("leaky_relu", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softplus"),
    *("squareplus", "swish"),
}
_POOLS: Final = {Function.MAXIMUM: MAX_POOL, Function.SUM: AVERAGE_POOL, None: MAX_POOL}
# Arithmetic through which values are followed: a bias is added, a statistic is scaled.
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
_NORM_MODULES: Final = {"BatchNorm": BATCH_NORM, "LayerNorm": LAYER_NORM, "GroupNorm": GROUP_NORM}
_ADAPTIVE: Final = "AdaptiveAvgPool"
# Operations of torch of which at least one is in the scope of `scaled_dot_product_attention`, however torch does it.
_FUSED_ATTENTION: Final = ("scaled_dot_product", "_safe_softmax")


@dataclass(frozen=True, slots=True)
class ToolLayer:
    """A layer or function of a program, with the counts of all its runs together.

    count: the MACs of a contraction; the elements of the output of a bias, an activation function or an embedding; the
    elements of the input of a norm or a pool. outputs: the elements of the output. groups: of a convolution. weight:
    the elements of the parameter of the layer, counted once. affine: the norm multiplies by a parameter. training: the
    norm computes the statistics of the batch. fused: it is in an attention module of a library, which other tools count
    as one layer. of_convolution: a bias is added to the result of a convolution. name: of an activation function.
    positions: of a convolution, the MACs of all taps at all output positions, whether the input has so many positions
    or not (at all input positions if the input is dilated). cell: the number of the recurrent cell that it may be a
    part of, 0 for none. module: the class of the module whose scope it is in, if that is known. torch: the program is
    one of torch, and all classes are known. biased: the recurrent layer has biases, which is assumed outside of torch.
    leaf: the module has no modules inside, or that is not known. separate: an attention product or softmax that is an
    operation of its own in torch, not a part of `scaled_dot_product_attention`, as in an nn.MultiheadAttention alone.
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
    positions: Count = 0
    cell: int = 0
    module: str = ""
    torch: bool = False
    biased: bool = True
    leaf: bool = True
    separate: bool = False


class _Value(NamedTuple):
    """The facts about an array. Layers are positions in the list of layers, -1 for none.

    size: its elements. weight: its elements if it is a parameter, moved or cast, else 0. product: the contraction that
    computed it. scale: its elements if it is 1 / sqrt(variance), else 0. affine, scales: whether that was multiplied by
    a parameter, and the elements of the parameter. axes, rank: the axes of the reduction that it comes from, and the
    rank of the reduced array. normed: the norm that computed it. fixed: it does not depend on an input of the program.
    sliced: it is another slice of an array in each run of a loop.
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
    fixed: bool = False
    sliced: bool = False


@dataclass(slots=True)
class _Layers:
    """The layers so far, the modules of the program, and the scopes of modules of torch with biases.

    cells: the number of each scope or loop that may be a recurrent cell, and the class of its module or the operation
    of torch, "" for a loop.
    """

    modules: Modules
    biased: Set[Scope]
    cells: dict[Scope | int, tuple[int, str]] = field(default_factory=dict["Scope | int", "tuple[int, str]"])
    layers: list[ToolLayer] = field(default_factory=list[ToolLayer])


def layers_of(analysis: Counts) -> list[ToolLayer]:
    """Return the layers of a program, in program order; [] for an analysis from a record, which has no equations."""
    program, tree = analysis.program, analysis.tree
    if tree is None or program is None:
        return []
    reader = _LayerReader(program.modules, _biased(program))
    sizes = {parameter.position: parameter.operand.size for parameter in program.parameters or ()}
    jaxpr = _jax.opened(analysis.live)
    inputs = [_Value(_size(v), weight=sizes.get(i, 0)) for i, v in enumerate(jaxpr.invars)]
    reader.run(analysis.live, tree.children, inputs, _LayerContext())
    layers = _with_cells(_without_statistics(reader.result.layers), reader.result)
    heads = {layer.scope[:1] for layer in layers}
    # nn.MultiheadAttention alone returns its weights: in torch its products are then operations of their own.
    alone = len(heads) == 1 and not program.modules.operations
    alone = alone and program.modules.kinds.get(heads.pop()) in _ATTENTION_MODULES
    return [replace(layer, separate=True) for layer in layers] if alone else layers


def _biased(program: Program) -> Set[Scope]:
    """Return the scopes of the modules of torch with biases, whose parameters have paths such as `0/0/lstm.bias_hh`."""
    names = [parameter.path.rpartition("/")[2].split(".") for parameter in program.parameters or ()]
    return {tuple(path) for *path, name in names if name.startswith("bias")}


class _LayerContext(NamedTuple):
    """The scope and direction of equations, and how often they run."""

    scope: Scope = ()
    direction: str = ""
    times: Count = 1
    loop: int = 0


class _LayerReader(Interpreter[_Value, _LayerContext]):
    """Recognises the layers of a program. Values are the facts about each array."""

    def __init__(self, modules: Modules, biased: Set[Scope]) -> None:
        self.result = _Layers(modules, biased)

    def literal(self, atom: Any) -> _Value:
        return _Value(_size(atom), fixed=True)

    def constant(self, var: Any, value: Any) -> _Value:
        return _Value(_size(var), fixed=True)

    def equation(self, node: Node, operands: list[_Value], context: _LayerContext) -> Sequence[_Value]:
        scope, direction = context.scope + node.scope, node.direction or context.direction
        results = _Equation(
            self, node, context._replace(scope=scope, direction=direction, times=context.times * node.times)
        ).results(operands)
        fixed = all(x.fixed for x in operands) and not node.bodies
        return [
            value._replace(size=_size(var), rank=len(_jax.operand(var.aval).shape), fixed=fixed)
            for var, value in zip(node.equation.outvars, results, strict=True)
        ]


class _Equation:
    """One equation with its scope, its direction and how often it runs."""

    def __init__(self, reader: _LayerReader, node: Node, context: _LayerContext) -> None:
        self.reader, self.result, self.node = reader, reader.result, node
        self.scope, self.times, self.loop = context.scope, context.times, context.loop
        self.direction = context.direction or FORWARD
        self.eqn, self.traits = node.equation, node.traits

    def results(self, inputs: list[_Value]) -> list[_Value]:
        """Add the layer that the equation is, if it is one; return the facts about its results."""
        if not self.times:
            return [_Value()] * len(self.eqn.outvars)
        if self.node.bodies:
            return self._bodies(inputs)
        traits, function = self.traits, self.traits.function
        if self.node.contraction in (ContractionKind.PRODUCT, ContractionKind.CONVOLUTION):
            return [_Value(product=self._contraction(inputs))]
        if traits.preserves:
            return [inputs[0]] * len(self.eqn.outvars)
        if function is Function.MULTIPLY:
            kept = [x for x, atom in zip(inputs, self.eqn.invars, strict=True) if not _is_one(atom)]
            if len(kept) == 1:  # a multiplication by 1, as in torch's addmm
                return kept
        if traits.windowed and function in _POOLS:
            self._add(
                GLOBAL_POOL if self._module().startswith(_ADAPTIVE) else _POOLS[function],
                self._size_in(),
                outputs=self._size_out(),
            )
        if function is Function.ACTIVATION:
            self._add(ACTIVATION, self._size_out(), name=self.node.label, cell=self._cell())
        if function is Function.EXPONENTIAL:
            self._add(SOFTMAX, self._size_out())
        if function is Function.LOOK_UP and inputs[0].weight and len(self._operand(0).shape) == 2:
            self._add(EMBEDDING, self._size_out(), weight=inputs[0].weight)
        if function is Function.SUM and not traits.windowed:
            return [self._reduction(inputs[0])]
        # The root of a constant, such as the size of a head, is no statistic.
        root = function in (Function.RECIPROCAL_ROOT, Function.SQUARE_ROOT)
        constant = inputs[0].fixed and inputs[0].size <= 1 if inputs else False
        if root and not self._is_update() and not constant:
            return [inputs[0]._replace(scale=self._size_out(), normed=-1)]
        keeps = traits.elementwise and function in _ARITHMETIC
        return [self._arithmetic(inputs) if keeps else _Value()] * len(self.eqn.outvars)

    def _bodies(self, inputs: list[_Value]) -> list[_Value]:
        call = called(self.node)
        # `jax.nn.relu` and similar functions are calls with the name of the function.
        function = str(self.eqn.params.get("name", "")) if call else ""
        if function in _ACTIVATIONS:
            self._add(ACTIVATION, self._size_out(), name=function, cell=self._cell())
            return [_Value()] * len(self.eqn.outvars)
        out: list[_Value] = []
        for body, child in zip(self.node.bodies, self.node.children, strict=True):
            operands = [
                _Value(_size(v))
                if source is None
                else inputs[source]._replace(
                    sliced=inputs[source].sliced or (body.loop and position >= (body.fixed or 0)),
                    fixed=inputs[source].fixed and not body.loop,
                )
                for position, (v, source) in enumerate(zip(_jax.opened(body.jaxpr).invars, _sources(body), strict=True))
            ]
            loop = len(self.result.cells) + 1 if body.loop else self.loop
            if body.loop:
                self.result.cells[loop] = (loop, "")
            context = _LayerContext(self.scope + child.scope, self.direction, self.times * child.times, loop)
            results = self.reader.run(body.jaxpr, child.children, operands, context)
            out = results if call else out
        return out or [_Value()] * len(self.eqn.outvars)

    def _contraction(self, inputs: list[_Value]) -> int:
        macs = self.node.once.macs * self.times
        weight = max(inputs[0].weight, inputs[1].weight)
        if self.traits.contraction is ContractionKind.CONVOLUTION:
            params = self.eqn.params
            groups = max(params["feature_group_count"], params["batch_group_count"])
            positions = self._positions(weight) * self.times
            return self._add(
                CONVOLUTION, macs, outputs=self._size_out(), groups=groups, weight=weight, positions=positions
            )
        (_, (batch, _)) = self.eqn.params["dimension_numbers"]
        kind = LINEAR if weight else ATTENTION if batch else PRODUCT
        sliced = any(x.weight and x.sliced for x in inputs[:2])
        return self._add(kind, macs, outputs=self._size_out(), weight=weight, cell=0 if sliced else self._cell())

    def _positions(self, weight: Count) -> Count:
        """Return the MACs of a convolution as torch counts them: all taps at all output positions.

        A transposed convolution counts its taps at all input positions, and so does the gradient of the input, which is
        the transposed convolution of the gradient of the output.
        """
        params, lhs, out = self.eqn.params, self._operand(0), _jax.operand(self.eqn.outvars[0].aval)
        numbers, kernel = params["dimension_numbers"], self._operand(1)
        transposed = self.direction != FORWARD and weight
        dilated = any(extent != 1 for extent in params["lhs_dilation"])
        axes: Sequence[int] = numbers.lhs_spec if transposed or dilated else numbers.out_spec
        along = lhs if transposed or dilated else out
        kernel_axes: Sequence[int] = numbers.rhs_spec
        result_axes: Sequence[int] = numbers.out_spec
        taps = prod(kernel.shape[axis] for axis in kernel_axes[1:])  # with the features of the input
        return taps * prod(along.shape[axis] for axis in axes[2:]) * prod(out.shape[axis] for axis in result_axes[:2])

    def _cell(self) -> int:
        """Return the number of the recurrent cell around the equation, or else of the loop; 0 without either."""
        cells, modules = self.result.cells, self.result.modules
        if modules.operations:
            operation = next(iter(CELL_OPERATIONS & modules.operations.get(self.scope, set())), "")
            return cells.setdefault(self.scope, (len(cells) + 1, operation))[0] if operation else 0
        for n in range(len(self.scope), 0, -1):
            module = self._module(n)
            if module in CELL_CLASSES:
                return cells.setdefault(self.scope[:n], (len(cells) + 1, module))[0]
        return self.loop

    def _module(self, depth: int | None = None) -> str:
        """Return the class of the module of the scope, or of the scope at a depth, "" if it is not known.

        In the body of a loop, jax 0.12 traces scopes from the loop on: then the inner part of the scope has a class.
        """
        kinds, depth = self.result.modules.kinds, len(self.scope) if depth is None else depth
        parts = (self.scope[start:depth] for start in range(max(depth, 1)))
        return next((kinds[part] for part in parts if part in kinds), "")

    def _reduction(self, operand: _Value) -> _Value:
        shape, axes = self._operand(0).shape, tuple(self.eqn.params["axes"])
        if len(shape) >= 4 and len(axes) >= len(shape) - 2 and 0 not in axes:
            self._add(GLOBAL_POOL, self._size_in(), outputs=self._size_out())
        return _Value(axes=axes, rank=len(shape), normed=operand.normed)

    def _arithmetic(self, inputs: list[_Value]) -> _Value:
        """Recognise biases and norms, and return the facts about the result.

        A norm is (x - mean) * scale + offset with scale = gamma / sqrt(variance). The steps: 1 / sqrt(variance) is
        marked by `results`; multiplied by a parameter (gamma) it stays a scale, and is affine; multiplied by a larger
        array (x) it is the norm; a parameter that is multiplied or added afterwards (gamma, offset) belongs to it.
        """
        size = self._size_out()
        parameter = next((x for x in inputs if x.weight), None)
        product = next((x.product for x in inputs if x.product >= 0), -1)
        if self.traits.function is Function.ADD and parameter and product >= 0:
            convolved = self.result.layers[product].kind == CONVOLUTION
            self._add(BIAS, size, weight=parameter.weight, of_convolution=convolved, cell=self._cell())
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
        if normed >= 0 and parameter and self.traits.function in (Function.MULTIPLY, Function.ADD):
            norm = self.result.layers[normed]
            affine = norm.affine or self.traits.function is Function.MULTIPLY
            self.result.layers[normed] = replace(norm, affine=affine, weight=norm.weight + parameter.weight)
        # A mean or variance stays one as long as it is not combined with a larger array.
        statistic = next((x for x in inputs if x.axes or x.scale), None)
        facts = statistic if statistic is not None and size <= max(statistic.size, 1) else _Value()
        return facts._replace(normed=normed)

    def _norm(self, scale: _Value, size: Count) -> int:
        """Add a norm. Its kind is that of its module, or follows from the axes of its statistics."""
        training = 0 in scale.axes
        last = scale.axes == (scale.rank - 1,)
        known = next((kind for name, kind in _NORM_MODULES.items() if name in self._module()), None)
        kind = known or (BATCH_NORM if training or not scale.axes else LAYER_NORM if last else GROUP_NORM)
        return self._add(kind, size, outputs=size, affine=scale.affine, training=training, weight=scale.scales)

    def _add(self, kind: str, count: Count, **more: Any) -> int:
        """Add a layer and return its position. count: of one run; of a contraction, of all runs."""
        contraction = kind in CONTRACTIONS
        more = {name: x * self.times if name == "outputs" else x for name, x in more.items()}
        total = count if contraction else count * self.times
        self.result.layers.append(ToolLayer(kind, self.scope, self.direction, total, **self._of_module(), **more))
        return len(self.result.layers) - 1

    def _of_module(self) -> dict[str, Any]:
        """Return what is known of the module in whose scope the equation is."""
        modules, scope = self.result.modules, self.scope
        operations = modules.operations.get(scope, ())
        return {
            "module": self._module(),
            "torch": bool(modules.operations),
            "biased": scope in self.result.biased or not modules.operations,
            "leaf": scope in modules.leaves or not modules.operations,
            "fused": any(self._module(n) in _ATTENTION_MODULES for n in range(len(scope) + 1)),
            "separate": bool(operations) and not any(part in name for part in _FUSED_ATTENTION for name in operations),
        }

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


def _is_one(atom: Any) -> bool:
    return _jax.is_literal(atom) and _size(atom) == 1 and bool(atom.val == 1)


def _sources(body: Any) -> Iterator[int | None]:
    """Yield for each input of the body the operand of the equation that it is, or None."""
    inputs = body.inputs
    for position in range(len(_jax.opened(body.jaxpr).invars)):
        yield inputs[position] if position < len(inputs) else None


def _without_statistics(layers: list[ToolLayer]) -> list[ToolLayer]:
    """Return the layers without the means of norms, which look like global pools."""
    norms = {layer.scope for layer in layers if layer.kind in NORMS}
    return [layer for layer in layers if not (layer.kind == GLOBAL_POOL and layer.scope in norms)]


def _with_cells(layers: list[ToolLayer], result: _Layers) -> list[ToolLayer]:
    """Return the layers with each recurrent cell as one layer, in the place of its parts.

    The contractions of its backward pass remain, as layers of the kind of the cell.
    """
    modules = dict(result.cells.values())
    parts: dict[int, list[ToolLayer]] = {}
    for layer in layers:
        if layer.cell and layer.direction == FORWARD:
            parts.setdefault(layer.cell, []).append(layer)
    cells: dict[int, ToolLayer] = {}
    for cell, inside in parts.items():
        products = [layer for layer in inside if layer.kind in CONTRACTIONS]
        functions = [(layer.name, layer.count) for layer in inside if layer.kind == ACTIVATION]
        found = recognised(modules[cell], [MatrixProduct(x.count, x.outputs, x.weight) for x in products], functions)
        if found and products:
            kind, units = found
            macs = sum(layer.count for layer in products)
            cells[cell] = replace(products[0], kind=kind, count=macs, outputs=units)
    replaced: list[ToolLayer] = []
    placed: set[int] = set()
    for layer in layers:
        cell = cells.get(layer.cell)
        if cell is None:
            replaced.append(layer)
        elif layer.direction != FORWARD:
            replaced.append(replace(layer, kind=cell.kind, outputs=0) if layer.kind in CONTRACTIONS else layer)
        elif layer.cell not in placed:
            placed.add(layer.cell)
            replaced.append(cell)
    return replaced
