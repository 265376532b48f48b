"""Reads a transformer from a traced program, by following its values through the forward pass.

Attention is a product of two activations, a softmax, and a product with a third activation; the linear layers that its
operands come from are its projections; a router is the linear layer whose result goes into `top_k`, and its experts are
the parameters with an axis of that extent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from costax import _jax
from costax.analysis.counts import Counts
from costax.analysis.other_tools.index_functions import Indices, Known, constant, elementwise, iota, moved
from costax.analysis.other_tools.masks import UNKNOWN, UNMASKED, Mask, read_mask
from costax.analysis.other_tools.transformer import Attention, Parts, Product, Routing, Transformer
from costax.core.cost import Count
from costax.core.equation import KERNEL
from costax.core.polynomial import Polynomial
from costax.program.interpreter import Interpreter
from costax.program.tree import FORWARD, RECOMPUTE, Node
from costax.rules.traits import ContractionKind, Function

_NOTHING: Final = frozenset[int]()
_LARGE: Final = 1 << 18
# Primitives that choose experts: the number of results for each token.
_CHOICES: Final = frozenset({"top_k", "approx_top_k", "argmax"})
_FUSED_ATTENTION: Final = frozenset(
    f"dot_product_attention_{kind}fwd{wrapper}" for kind in ("", "fp8_") for wrapper in ("", "_wrapper")
)


def read_transformer(analysis: Counts) -> Transformer:
    """Return the parts of a model. The analysis must have equations and known parameters."""
    program, tree = analysis.program, analysis.whole_tree()
    parameters = {p.position: p.operand.size for p in program.parameters}
    inputs = [
        _Fact(parameters=frozenset({position}), shape=_shape(var))
        if position in parameters
        else _Fact(dynamic=True, shape=_shape(var))
        for position, var in enumerate(_jax.opened(analysis.live).invars)
    ]
    # Where `jit` removes the forward pass, because only the gradient is used, the recomputed one takes its place.
    parts = Parts()
    for direction in (FORWARD, RECOMPUTE):
        if not parts.products:
            reader = _Reader(direction)
            reader.run(analysis.live, tree.children, inputs, _Context())
            parts = reader.parts
    return Transformer(parts, parameters)


class _Fact(NamedTuple):
    """What is known about an array.

    shape: of the array. parameters: it is these parameters, moved or cast. gathered: they are looked up for each token.
    products: it is computed from these products, without another product in between. scores: the product of which it
    has an element for each element, or -1. allowed: what is known of the masks of the scores. masked: they are masked.
    probabilities: it is a softmax of these products. known: its elements, if the program fixes them. dynamic: it
    depends on an input that is no parameter. embedded: it is a sum of embeddings. direct: it is the result of the
    product, moved or cast, and nothing else. norm: it is a norm of such a result, with a scale of so many elements.
    statistic: it is the reciprocal root of a norm.
    """

    shape: tuple[Count, ...] = ()
    parameters: frozenset[int] = _NOTHING
    gathered: bool = False
    products: frozenset[int] = _NOTHING
    scores: int = -1
    allowed: tuple[Known, ...] = ()
    masked: bool = False
    probabilities: frozenset[int] = _NOTHING
    known: Known | None = None
    dynamic: bool = False
    embedded: bool = False
    direct: int = -1
    norm: int = -1
    scale: Count = 0
    statistic: bool = False


class _Context(NamedTuple):
    """The direction of equations, and how often they run."""

    direction: str = ""
    times: Count = 1


class _Reader(Interpreter[_Fact, _Context]):
    """Follows the values of one pass. direction: of its equations."""

    def __init__(self, direction: str) -> None:
        self.parts, self.direction = Parts(), direction

    def literal(self, atom: Any) -> _Fact:
        return _Fact(known=_concrete(atom.val))

    def constant(self, var: Any, value: Any) -> _Fact:
        return _Fact(shape=_shape(var), known=_concrete(value))

    def equation(self, node: Node, operands: list[_Fact], context: _Context) -> Sequence[_Fact]:
        eqn = node.equation
        direction, times = node.direction or context.direction, context.times * node.times
        shapes = [_shape(var) for var in eqn.outvars]
        if not times or (not node.bodies and (direction or FORWARD) != self.direction):
            return [_Fact(shape=shape, dynamic=True) for shape in shapes]
        if node.bodies:
            results = self._bodies(node, operands, _Context(direction, times))
        elif node.label in _FUSED_ATTENTION:
            results = self._fused_attention(node, operands, times)
        elif node.traits.contraction is not None:
            results = [self._product(node, operands, times)] * len(shapes)
        else:
            results = self._leaf(node, operands, shapes)
        return [fact._replace(shape=shape) for fact, shape in zip(results, shapes, strict=True)]

    def _bodies(self, node: Node, operands: list[_Fact], context: _Context) -> Sequence[_Fact]:
        eqn = node.equation
        results: list[_Fact] = [_Fact(dynamic=True)] * len(eqn.outvars)
        for body, child in zip(node.bodies, node.children, strict=True):
            invars = _jax.opened(body.jaxpr).invars
            sources: list[int | None] = [body.inputs[i] if i < len(body.inputs) else None for i in range(len(invars))]
            inputs = [
                _Fact(shape=_shape(var), dynamic=True)
                if source is None
                else _entering(operands[source], var, fixed=not body.loop or position < (body.fixed or 0))
                for position, (var, source) in enumerate(zip(invars, sources, strict=True))
            ]
            first = len(self.parts.products)
            inner = self.run(body.jaxpr, child.children, inputs, context._replace(times=context.times * child.times))
            if body.name == KERNEL:
                self._kernel(operands, first, context.times)
            if len(inner) == len(results) and child.times:
                kept = [fact if not body.loop else fact._replace(known=None) for fact in inner]
                results = kept if not body.choice else [_joined([a, b]) for a, b in zip(results, kept, strict=True)]
        return results

    def _kernel(self, operands: list[_Fact], first: int, times: Count) -> None:
        """Attribute the products of a kernel, which works on references, to the operands of the kernel."""
        matrices = [x for x in operands if x.parameters and len(x.shape) >= 2]
        sources = _NOTHING.union(*(x.products for x in operands))
        for at, attention in enumerate(self.parts.attentions):
            if attention.scores >= first:
                self.parts.attentions[at] = self._whole(attention, operands, times)
        attended = {number for a in self.parts.attentions for number in (a.scores, a.values)}
        for number in range(first, len(self.parts.products)):
            product = self.parts.products[number]
            product.operands = (sources, *product.operands)
            if matrices and number not in attended and not product.parameters:
                weight = max(matrices, key=lambda x: len(x.shape))
                product.size, product.shape, product.parameters = _size(weight.shape), weight.shape, weight.parameters

    def _whole(self, attention: Attention, operands: list[_Fact], times: Count) -> Attention:
        """Return an attention that a kernel computes in blocks, with the MACs of all blocks and the whole length.

        The first three operands of rank 3 or more are the queries, keys and values: (..., length, size of a head) or
        (batch, length, heads, size of a head).
        """
        head = self.parts.products[attention.scores].inner
        arrays = [x.shape for x in operands if len(x.shape) >= 3]
        if len(arrays) < 3 or arrays[0][-1] != head or arrays[1][-1] != head:
            return replace(attention, mask=UNKNOWN, keys=0)
        queries, keys, values = arrays[:3]
        computed = sum(self.parts.products[number].macs for number in {attention.scores, attention.values})
        for axis in (-2, -3):
            rows = _size(queries[:-1]) * times
            macs = rows * keys[axis] * (head + values[-1])
            if len(keys) >= 2 - axis and _at_least(macs, computed):
                # A kernel that leaves out blocks has a mask; that it is causal is a guess.
                mask = Mask(causal=True, masked=True, known=False) if computed < macs else attention.mask
                self.parts.products[attention.scores].outputs = rows * keys[axis]
                return replace(attention, keys=keys[axis], macs=macs, mask=mask)
        return replace(attention, mask=UNKNOWN, keys=0)

    def _product(self, node: Node, operands: list[_Fact], times: Count) -> _Fact:
        """Add a contraction. Its operands are weights or activations; one may be the softmax of earlier scores."""
        eqn, parts = node.equation, self.parts
        weight = next((x for x in operands[:2] if x.parameters), None)
        number = len(parts.products)
        product = Product(
            macs=node.own.macs * times,
            inner=_inner(node, operands),
            operands=tuple(x.products for x in operands[:2]),
            outputs=_size(_shape(eqn.outvars[0])) * times,
        )
        parts.products.append(product)
        for x in operands[:2]:
            if weight is not None and x.norm >= 0 and x.norm != number and not x.parameters:
                parts.latent_norms[x.norm] = x.scale
        if weight is not None:
            product.size, product.shape = _size(weight.shape), weight.shape
            product.parameters, product.gathered = weight.parameters, weight.gathered
        else:
            softmax = next((i for i, x in enumerate(operands[:2]) if x.probabilities), None)
            if softmax is not None and not all(x.probabilities for x in operands[:2]):
                self._attention(node, operands[softmax], softmax, number)
        return _Fact(
            products=frozenset({number}),
            scores=-1 if weight is not None else number,
            dynamic=True,
            direct=number if weight is not None else -1,
        )

    def _attention(self, node: Node, weights: _Fact, position: int, number: int) -> None:
        """Add an attention: `weights` is the softmax of its scores, and operand `position` of the second product."""
        (score, *_) = sorted(weights.probabilities)
        keys: Count = 0
        mask = UNKNOWN if weights.masked else UNMASKED
        if node.traits.contraction is ContractionKind.PRODUCT:
            (contracted, _) = node.equation.params["dimension_numbers"]
            axes: tuple[int, ...] = tuple(contracted[position])
            keys = weights.shape[axes[0]] if len(axes) == 1 else 0
            fixed = [part for part in weights.allowed if part.shape == _integers(weights.shape)]
            if fixed and len(axes) == 1:
                read = read_mask(fixed, axes[0])
                mask = UNKNOWN if read.sequences and isinstance(keys, Polynomial) else read
        self.parts.attentions.append(Attention(score, number, keys, mask))

    def _fused_attention(self, node: Node, operands: list[_Fact], times: Count) -> Sequence[_Fact]:
        """Add an attention that is one primitive, of cuDNN."""
        number, params = len(self.parts.products), node.equation.params
        query, key = operands[0].shape, operands[1].shape
        heads_first = params.get("layout") == 1
        keys = key[2] if heads_first else key[1]
        rows = _size(query[:-1])
        sources = tuple(x.products for x in operands[:3])
        self.parts.products.append(Product(node.own.macs * times, operands=sources, outputs=rows * keys * times))
        masks = params.get("mask_type")
        causal = bool(params.get("use_causal_mask")) or "CAUSAL" in str(getattr(masks, "name", masks))
        window = params.get("sliding_window_length") or 0
        mask = Mask(causal=causal or bool(window), window=window, masked=causal or bool(window))
        self.parts.attentions.append(Attention(number, number, keys, mask))
        return [_Fact(products=frozenset({number}), dynamic=True)] * len(node.equation.outvars)

    def _leaf(self, node: Node, operands: list[_Fact], shapes: list[tuple[Count, ...]]) -> Sequence[_Fact]:
        eqn, traits, name = node.equation, node.traits, node.label
        shape = shapes[0] if shapes else ()
        if name == "iota":
            return [_Fact(known=iota(_integers(shape), eqn.params["dimension"]))]
        if name in _CHOICES and operands[0].products:
            chosen = eqn.params.get("k", 1) if name != "argmax" else 1
            axis = eqn.params["axes"][0] if name == "argmax" else -1
            choice = Routing(operands[0].products, operands[0].shape[axis], chosen)
            self.parts.choices.append((len(self.parts.products), choice))
            return [_Fact(products=operands[0].products, dynamic=True)] * len(shapes)
        if traits.function is Function.LOOK_UP or (traits.partial and traits.moves and operands[0].parameters):
            return [self._look_up(operands)] * len(shapes)
        if traits.preserves and not name.startswith("concatenate"):
            return [self._moved(node, operands, shape)] * len(shapes)
        if traits.elementwise:
            return [self._elementwise(node, operands, shape)] * len(shapes)
        return [_joined(operands)._replace(scores=-1, allowed=(), known=None)] * len(shapes)

    def _look_up(self, operands: list[_Fact]) -> _Fact:
        table, dynamic = operands[0], any(x.dynamic for x in operands[1:])
        if table.parameters and not table.gathered:
            rank = sum(1 for extent in table.shape if extent != 1)
            if rank <= 2:
                (self.parts.tables if dynamic else self.parts.positions).update(table.parameters)
                return _Fact(dynamic=dynamic, embedded=dynamic)
            return table._replace(gathered=dynamic, dynamic=dynamic)
        return table._replace(dynamic=True, scores=-1, allowed=(), known=None, direct=-1, norm=-1)

    def _moved(self, node: Node, operands: list[_Fact], shape: tuple[Count, ...]) -> _Fact:
        fact, fixed, params = operands[0], _integers(shape), node.equation.params
        known = moved(node.label, params, fact.known, fixed) if fact.known is not None else None
        parts = [moved(node.label, params, part, fixed) for part in fact.allowed]
        whole = _size(shape) == _size(fact.shape)
        return fact._replace(
            known=known,
            allowed=tuple(part for part in parts if part is not None),
            masked=fact.masked,
            scores=fact.scores if whole else -1,
        )

    def _elementwise(self, node: Node, operands: list[_Fact], shape: tuple[Count, ...]) -> _Fact:
        function, fixed = node.traits.function, _integers(shape)
        known = elementwise(node.label, [x.known for x in operands], fixed)
        joined = _joined(operands)._replace(known=known)
        scored = next((i for i, x in enumerate(operands) if x.scores >= 0 and x.shape == shape), None)
        if scored is not None:
            joined = self._scored(joined, node, operands, scored)
        if function is Function.EXPONENTIAL and joined.scores >= 0:
            joined = joined._replace(probabilities=frozenset({joined.scores}))
        if function is Function.ADD:
            self._added(operands)
        return self._normed(joined, node, operands)

    def _scored(self, joined: _Fact, node: Node, operands: list[_Fact], scored: int) -> _Fact:
        """Keep the scores, and add the mask that this equation applies to them."""
        scores, function = operands[scored], node.traits.function
        others = [x for i, x in enumerate(operands) if i != scored]
        allowed, masked = scores.allowed, scores.masked
        shape = _integers(scores.shape)
        if function is Function.SELECT and scored > 0:
            masked = True
            predicate = operands[0].known
            if predicate is not None and predicate.shape == shape:
                kept = predicate if scored == 2 else elementwise("not", [predicate], shape)
                allowed = (*allowed, kept) if kept is not None else allowed
        elif function is Function.ADD and others and not scores.probabilities:
            bias = others[0]
            known = bias.known
            if known is not None and known.shape and not known.partial:
                masked, allowed = True, (*allowed, Known(shape, _not_hugely_negative(known)))
            masked = masked or (bias.dynamic and not bias.parameters and not bias.products)
        return joined._replace(scores=scores.scores, allowed=allowed, masked=masked)

    def _added(self, operands: list[_Fact]) -> None:
        """Note the parameter that is added to embeddings, row by row: an embedding of positions."""
        if any(x.embedded for x in operands):
            for x in operands:
                if x.parameters and sum(1 for extent in x.shape if extent != 1) >= 2:
                    self.parts.positions.update(x.parameters)

    def _normed(self, joined: _Fact, node: Node, operands: list[_Fact]) -> _Fact:
        """Follow a norm of the result of a linear layer: x * (1 / root) * scale."""
        function = node.traits.function
        root = function in (Function.SQUARE_ROOT, Function.RECIPROCAL_ROOT)
        if root or (function in (Function.MULTIPLY, Function.DIVIDE) and any(x.statistic for x in operands)):
            direct = next((x.direct for x in operands if x.direct >= 0 and not x.statistic), -1)
            if root or direct < 0:
                return joined._replace(statistic=root, direct=-1, norm=-1)
            return joined._replace(norm=direct, direct=-1, statistic=False, scale=0)
        normed = next((x for x in operands if x.norm >= 0), None)
        scale = next((x for x in operands if x.parameters), None)
        if normed is not None and scale is not None and function is Function.MULTIPLY:
            return joined._replace(norm=normed.norm, scale=max(scale.shape, default=0), direct=-1, statistic=False)
        if function is Function.CONVERT:
            (cast,) = operands
            return joined._replace(direct=cast.direct, norm=cast.norm, scale=cast.scale, statistic=cast.statistic)
        return joined._replace(direct=-1, norm=-1, statistic=False)


def _entering(fact: _Fact, var: Any, *, fixed: bool) -> _Fact:
    """Return an operand inside a body. fixed: it has the same value in every run; else it may be a slice."""
    same = fixed and fact.shape == _shape(var)
    known, allowed = (fact.known, fact.allowed) if same else (None, ())
    return fact._replace(shape=_shape(var), known=known, allowed=allowed, direct=-1, norm=-1)


def _joined(operands: Sequence[_Fact]) -> _Fact:
    """Return the facts about an array that is computed from others."""
    products = _NOTHING.union(*(x.products for x in operands))
    # Arithmetic on parameters alone, such as dequantisation or the fusion of two matrices, gives a parameter again.
    still = not products and not any(x.dynamic for x in operands)
    return _Fact(
        parameters=_NOTHING.union(*(x.parameters for x in operands)) if still else _NOTHING,
        products=products,
        probabilities=_NOTHING.union(*(x.probabilities for x in operands)),
        masked=any(x.masked for x in operands),
        dynamic=any(x.dynamic for x in operands),
        embedded=any(x.embedded for x in operands),
    )


def _inner(node: Node, operands: list[_Fact]) -> Count:
    if node.traits.contraction is not ContractionKind.PRODUCT:
        return 0
    axes: Sequence[int] = node.equation.params["dimension_numbers"][0][0]
    inner: Count = 1
    for axis in axes:
        inner *= operands[0].shape[axis]
    return inner


def _not_hugely_negative(bias: Known) -> Callable[[Indices], Any]:
    def at(index: Indices) -> Any:
        return bias.at(index) > -1e3

    return at


def _at_least(one: Count, other: Count) -> bool:
    symbolic = isinstance(one, Polynomial) or isinstance(other, Polynomial)
    return not symbolic and one >= other


def _concrete(value: Any) -> Known | None:
    return constant(value) if _jax.is_concrete(value, 1 << 28) else None


def _shape(atom: Any) -> tuple[Count, ...]:
    return _jax.operand(atom.aval).shape


def _size(shape: Sequence[Count]) -> Count:
    size: Count = 1
    for extent in shape:
        size *= extent
    return size


def _integers(shape: tuple[Count, ...]) -> tuple[int, ...]:
    # Masks are read at one large size if sizes are symbols. No array of this size is computed, only a few rows.
    return tuple(
        int(extent(**dict.fromkeys(extent.symbols, _LARGE))) if isinstance(extent, Polynomial) else extent
        for extent in shape
    )
