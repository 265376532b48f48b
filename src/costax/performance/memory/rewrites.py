"""Rewrites: the ops that a compiler inserts into a program before it fuses, as a new region.

XLA for CPUs casts the operands of products and convolutions to float32 (change_op_data_type.cc, which cpu_compiler.cc
runs where the processor multiplies no 16-bit numbers), brings the batch axes of a product to the front
(dot_decomposer.cc), and gives every convolution the layouts NHWC, HWIO and NHWC (conv_canonicalization.cc). Each of
these is an op with a result of its own, which may be fused, and which takes memory where it is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from costax.core.dtypes import bits, short_name
from costax.core.equation import Operand
from costax.performance.memory import dot_kind
from costax.performance.memory.compiler import CompilerModel
from costax.performance.memory.simplifications import is_scatter, scalar_broadcasts, swaps_last_axes
from costax.program.regions import Op, Region, Value
from costax.rules.traits import ELEMENTWISE, MOVEMENT, NO_TRAITS, ContractionKind, Function, Implementation, Traits

_CAST = ELEMENTWISE.but(function=Function.CONVERT)
_TRANSPOSE = MOVEMENT.but(permutes=True)
_EXPANSION = MOVEMENT.but(repeats=True)
_UPDATE = NO_TRAITS.but(in_place=True)
_REPEAT = MOVEMENT.but(repeats=True)
# Smaller arrays of one number are no part of any peak.
_LARGE_LITERAL = 1 << 10
# Floating-point numbers of 8 and 16 bits.
_NARROW = ("bf16", "f16", "f8_e4m3fn", "f8_e5m2")
# Smaller draws are no part of any peak.
_LARGE_DRAW = 1 << 10
# A loop that copies what it carries: it needs its result once more.
CIPHER_LOOP = NO_TRAITS.but(series_arrays=1)


def rewritten_for_cpu(region: Region) -> Region:
    """Return the region with casts and transposes around its contractions; the region itself where none is needed."""
    kinds = (ContractionKind.PRODUCT, ContractionKind.CONVOLUTION)
    if not any(
        op.traits.contraction in kinds or op.loop or _is_threefry(op, region) or _scatters_maxima(op)
        for op in region.ops
    ):
        return region
    rewriter = _Rewriter(region)
    for op in region.ops:
        if _is_threefry(op, region):
            rewriter.add_threefry(op)
        elif _scatters_maxima(op):
            rewriter.add_scatter_of_maxima(op)
        elif op.loop and not op.has_condition:
            rewriter.add_scan(op)
        else:
            rewriter.add(op, contraction=op.traits.contraction in kinds)
    return rewriter.region


def with_expanded_groups(region: Region, model: CompilerModel) -> Region:
    """Return the region with the operands of ragged products written once for each group, masked to its rows.

    jax lowers a ragged product to a batched one. Where the rows are contracted, as in the gradient of the weights, both
    operands are written for each group; otherwise the left one, whose groups are contracted with its inner axis, so
    that dot_decomposer.cc transposes it. Equal arrays are one. Example: f32[1024,256] x f32[1024,512] in 4 groups are
    4 * 1024 * (256 + 512) * 4 bytes. Source: jax, _src/lax/lax.py, _ragged_dot_general_impl.
    """
    if not any(op.traits.contraction is ContractionKind.RAGGED for op in region.ops):
        return region
    rewriter = _Rewriter(region)
    # By sizes of the groups and shape: how many operands are masked alike. XLA for CPUs stores a mask of several.
    masks = Counter[object]()
    if model.kind == "cpu":
        for op in region.ops:
            if op.traits.contraction is ContractionKind.RAGGED:
                expanded = op.inputs[: 2 if _contracts_rows(op) else 1]
                masks.update((op.inputs[2], region.values[x].operand.shape) for x in expanded if x is not None)
    for op in region.ops:
        if op.traits.contraction is ContractionKind.RAGGED:
            rewriter.expand(op, masks, widen=model.kind == "cpu")
        else:
            rewriter.append(op)
    return rewriter.region


def with_shared_initial_values(region: Region, model: CompilerModel) -> Region:
    """Return a program with one op that fills the arrays of zeros of one shape, of all its scans and scatters.

    A scan writes its stacked results into an array of zeros, and so does the gradient of a lookup or of a maximum over
    windows. The zeros of one shape are one broadcast after common subexpressions are gone, copy insertion makes a copy
    for each loop and each scatter, and copy_fusion.cc puts all copies into the kernel that fills the first, if they
    are at most `most_sources`; so all are alive from the first on. copy_fusion.cc does that for the entry computation
    alone, so the body of a loop is left as it is. (XLA after August 2026 fills arrays from 1 MiB apart again.)
    Example: nothing but the last of six checkpointed blocks needs its recomputed activations now, and all six have
    their memory.
    """
    zeros = scalar_broadcasts(region)
    by_shape: dict[Operand, list[tuple[int, int]]] = {}
    for number, op in enumerate(region.ops):
        stacked: Sequence[int] = ()
        scatters = op.traits.in_place and is_scatter(op) and op.inputs[0] in zeros
        if op.loop and not op.has_condition:
            stacked = op.outputs[len(op.carried) :]
        elif scatters or op.traits.implementation is Implementation.WINDOW_SCATTER:
            stacked = op.outputs
        for x in stacked:
            by_shape.setdefault(region.values[x].operand, []).append((number, x))
    shared = [
        pairs
        for pairs in by_shape.values()
        if len({number for number, _ in pairs}) > 1 and len(pairs) <= model.most_sources
    ]
    if not shared:
        return region
    rewriter = _Rewriter(region)
    filled: dict[int, int] = {}
    for pairs in shared:
        first = region.ops[pairs[0][0]]
        made = {x: rewriter.value(x, "") for _, x in pairs}
        rewriter.append(
            replace(first, name="zeros", inputs=(), outputs=tuple(made.values()), regions=(), nodes=(), loop=False,
                    carried=range(0), inserted=NO_TRAITS, after=())
        )  # fmt: skip
        filled |= made
    for op in region.ops:
        added = tuple(filled[x] for x in op.outputs if x in filled)
        if added and op.traits.in_place:
            rewriter.append(replace(op, inputs=(*added, *op.inputs[1:])))
        else:
            rewriter.append(replace(op, inputs=(*op.inputs, *added)) if added else op)
    return rewriter.region


def _is_threefry(op: Op, region: Region) -> bool:
    """Say whether an op draws more than a few random numbers with the default generator."""
    if op.name != "random_bits" or op.inserted or op.inputs[0] is None:
        return False
    large = int(region.values[op.outputs[0]].nbytes) >= _LARGE_DRAW
    return large and region.values[op.inputs[0]].operand.dtype == "key<fry>"


def _scatters_maxima(op: Op) -> bool:
    """Say whether an op is the gradient of a maximum, or minimum, over windows."""
    return op.traits.implementation is Implementation.WINDOW_SCATTER and None not in op.inputs[:2]


class _Rewriter:
    def __init__(self, region: Region) -> None:
        self.region = replace(region, values=[replace(value) for value in region.values], ops=[])
        # The results that were inserted already, by operand and kind: XLA removes common subexpressions.
        self._inserted: dict[tuple[int, object], int] = {}

    def add_scan(self, op: Op) -> None:
        """Add a scan. What it slices is cast to float32 before it.

        XLA for CPUs computes a slice of 16-bit numbers in float32 (float_normalization.cc) and moves the cast of the
        whole array, which no iteration changes, out of the loop (while_loop_invariant_code_motion.cc, which
        cpu_compiler.cc runs without a limit on arrays that grow).
        """
        inputs, body = list(op.inputs), op.regions[0]
        for number, source in zip(body.inputs, body.sources, strict=False):
            x = None if source is None or body.values[number].kind != "slice" else inputs[source]
            if source is not None and x is not None and self.region.values[x].operand.dtype in _NARROW:
                inputs[source] = self._insert(op, x, _CAST, "convert", "cast", "f32")
        self.append(replace(op, inputs=tuple(inputs)))

    def add_threefry(self, op: Op) -> None:
        """Add a draw of random numbers: a loop over the rounds of the cipher, whose two words the drawn ones join.

        The loop carries both words of each block and copies them in each round. Source: jax, _src/prng.py, where the
        loop over the rounds is rolled on a CPU alone. Example: 1,000 numbers take 4 * 4 * 1,000 bytes in the loop.
        """
        x = op.outputs[0]
        words = 2 * prod(map(int, self.region.values[x].operand.shape))
        self.region.values.append(Value(Operand((words,), "u32"), "computed", 4 * words))
        joined = len(self.region.values) - 1
        self.append(replace(op, name="threefry2x32", outputs=(joined,), inserted=CIPHER_LOOP))
        self.append(replace(op, inputs=(joined,), inserted=ELEMENTWISE))

    def add_scatter_of_maxima(self, op: Op) -> None:
        """Add the gradient of a maximum over windows: a scatter to the positions of the maxima, which are found first.

        The positions come from a maximum over windows of the array together with its indices, an array for each axis.
        XLA for CPUs fuses none of these, and what reads nothing runs first. Source: XLA,
        select_and_scatter_expander.cc.
        Example: a maximum over windows 2 x 2 of f32[64,64,64,64] takes four arrays of its size for the indices, and
        four of a quarter of it for the positions, beside these once more in one array.
        """
        source, operand = op.inputs[:2]
        assert source is not None
        assert operand is not None
        gradient, array = self.region.values[source].operand, self.region.values[operand].operand
        rank = len(array.shape)
        indices = [self._computed(op, "iota", (), Operand(array.shape, "i32")) for _ in range(rank)]
        positions = [self._new_value(Operand(gradient.shape, "i32")) for _ in range(rank)]
        maxima = self._new_value(Operand(gradient.shape, array.dtype))
        self.append(
            replace(op, name="reduce_window", inputs=(operand, *indices), outputs=(maxima, *positions),
                    inserted=NO_TRAITS)
        )  # fmt: skip
        joined = self._computed(op, "concatenate", tuple(positions), Operand((*gradient.shape, rank), "i32"))
        zeros = self._computed(op, "zeros", (), self.region.values[op.outputs[0]].operand)
        self.append(replace(op, inputs=(zeros, joined, source), inserted=_UPDATE))

    def _with_broadcast_literals(self, op: Op) -> Op:
        """Return an elementwise op that reads its number as an array, one for all ops with this number and shape.

        Most kernels compute the array where they use it; a library call reads it from memory if another kernel uses it
        too. Example: the scale of attention scores, by which the forward and the backward pass multiply.
        """
        if not op.traits.elementwise or op.inserted or None not in op.inputs or len(op.outputs) != 1:
            return op
        shape = self.region.values[op.outputs[0]].operand.shape
        inputs = list(op.inputs)
        for position, (x, atom) in enumerate(zip(inputs, op.equation.invars, strict=True)):
            if x is None and prod(map(int, shape)) >= _LARGE_LITERAL:
                dtype = short_name(str(atom.aval.dtype))
                key = "literal", str(getattr(atom, "val", None)), shape, dtype
                if (-1, key) not in self._inserted:
                    self._inserted[-1, key] = self._new_value(Operand(shape, dtype))
                    self.append(
                        replace(op, name="broadcast_in_dim", inputs=(None,), outputs=(self._inserted[-1, key],),
                                inserted=_REPEAT)
                    )  # fmt: skip
                inputs[position] = self._inserted[-1, key]
        return replace(op, inputs=tuple(inputs))

    def _before_transpose(self, x: int) -> int:
        """Return what a transpose of the last two axes reads, as a product does. Source: transpose_folding.cc."""
        producer = self.region.values[x].op
        op = self.region.ops[producer] if producer >= 0 else None
        if op is None or op.inserted or not op.traits.permutes or not swaps_last_axes(op):
            return x
        return x if op.inputs[0] is None else op.inputs[0]

    def _computed(self, op: Op, name: str, read: tuple[int, ...], operand: Operand) -> int:
        """Insert an op that is not fused; return its result."""
        result = self._new_value(operand)
        self.append(replace(op, name=name, inputs=read, outputs=(result,), inserted=NO_TRAITS))
        return result

    def _new_value(self, operand: Operand) -> int:
        self.region.values.append(Value(operand, "computed", operand.nbytes))
        return len(self.region.values) - 1

    def add(self, op: Op, *, contraction: bool) -> None:
        if not contraction:
            self.append(self._with_broadcast_literals(op))
            return
        convolution = op.traits.contraction is ContractionKind.CONVOLUTION
        orders = _convolution_orders(op) if convolution else _product_orders(op)
        inputs = list(op.inputs)
        for position, order in enumerate(orders[:2]):
            x = inputs[position]
            if x is None:
                continue
            if order is None and not convolution:
                x = self._before_transpose(x)
            if self.region.values[x].operand.dtype in _NARROW:
                x = self._insert(op, x, _CAST, "convert", "cast", "f32")
            if order is not None:
                x = self._insert(op, x, _TRANSPOSE, "transpose", order, "")
            inputs[position] = x
        result = op.outputs[0]
        narrow = self.region.values[result].operand.dtype in _NARROW
        if not narrow and orders[2] is None:
            self.append(replace(op, inputs=tuple(inputs)))
            return
        wide = self.value(result, "f32" if narrow else "")
        self.append(replace(op, inputs=tuple(inputs), outputs=(wide,)))
        traits, name = (_CAST, "convert") if narrow else (_TRANSPOSE, "transpose")
        self.append(replace(op, name=name, inputs=(wide,), outputs=(result,), inserted=traits))

    def expand(self, op: Op, masks: Mapping[object, int], *, widen: bool) -> None:
        """Add a ragged product and the arrays that it reads.

        masks: how many operands are masked alike, by sizes of the groups and shape. widen: 16-bit numbers are cast to
        float32.
        """
        groups = op.equation.invars[2].aval.shape[-1]
        rows_contracted = _contracts_rows(op)
        inputs = list(op.inputs)
        for position in (0, 1):
            x = inputs[position]
            if x is None:
                continue
            like = self.region.values[x].operand
            dtype = "f32" if widen and like.dtype in _NARROW else like.dtype
            times = groups if position == 0 or rows_contracted else 1
            if times == 1 and dtype == like.dtype:
                continue
            # The rows of other groups are zero: the sizes of the groups are read too.
            several = masks.get((op.inputs[2], like.shape), 0) > 1
            mask = self._mask(op, times, like.shape) if several else op.inputs[2]
            inputs[position] = self._grown(op, (x, mask), "expand", times, dtype, _EXPANSION)
            if position == 0 and not rows_contracted:
                # The groups and the inner axis are contracted together, so the rows come first.
                inputs[0] = self._grown(op, (inputs[0],), "transpose", 1, dtype, _TRANSPOSE)
        self.append(replace(op, inputs=tuple(inputs)))

    def _mask(self, op: Op, groups: int, shape: tuple[Any, ...]) -> int:
        """Insert the mask of the rows of each group, one for all arrays of a shape; return its number."""
        sizes = op.inputs[2]
        assert sizes is not None
        if (sizes, shape) not in self._inserted:
            operand = Operand((groups, *shape), "bool")
            self.region.values.append(Value(operand, "computed", operand.nbytes))
            result = self._inserted[sizes, shape] = len(self.region.values) - 1
            self.append(replace(op, name="mask", inputs=(sizes,), outputs=(result,), inserted=NO_TRAITS))
        return self._inserted[sizes, shape]

    def _grown(self, op: Op, read: tuple[int | None, ...], name: str, times: int, dtype: str, traits: Traits) -> int:
        """Insert an op whose result has as many elements as its first operand, times a number; return the result."""
        x = read[0]
        assert x is not None
        key = (name, times, dtype, read)
        if (x, key) not in self._inserted:
            like = self.region.values[x]
            elements = like.nbytes // (bits(like.operand.dtype) // 8)
            nbytes = elements * times * (bits(dtype) // 8)
            shape = (times, *like.operand.shape) if times > 1 else like.operand.shape
            self.region.values.append(Value(Operand(shape, dtype), "computed", nbytes))
            result = self._inserted[x, key] = len(self.region.values) - 1
            inputs = tuple(y for y in read if y is not None)
            self.append(replace(op, name=name, inputs=inputs, outputs=(result,), inserted=traits))
        return self._inserted[x, key]

    def _insert(self, op: Op, x: int, traits: Any, name: str, key: object, dtype: str) -> int:
        if (x, key) not in self._inserted:
            result = self.value(x, dtype)
            self.append(
                replace(op, name=name, inputs=(x,), outputs=(result,), regions=(), nodes=(), loop=False,
                        carried=range(0), inserted=traits)
            )  # fmt: skip
            self._inserted[x, key] = result
        return self._inserted[x, key]

    def value(self, x: int, dtype: str) -> int:
        """Add a value like another one, in another dtype; "": the same. Return its number."""
        like = self.region.values[x]
        operand = Operand(like.operand.shape, dtype or like.operand.dtype)
        nbytes = like.nbytes * bits(operand.dtype) // bits(like.operand.dtype)
        self.region.values.append(Value(operand, "computed", nbytes))
        return len(self.region.values) - 1

    def append(self, op: Op) -> None:
        number = len(self.region.ops)
        for x in op.outputs:
            self.region.values[x].op = number
        self.region.ops.append(op)


def _contracts_rows(op: Op) -> bool:
    """Say whether a ragged product sums over the rows, as the gradient of its weights does."""
    numbers = op.equation.params["ragged_dot_dimension_numbers"]
    return numbers.lhs_ragged_dimensions[0] in numbers.dot_dimension_numbers[0][0]


def _product_orders(op: Op) -> tuple[object, object, object]:
    """Return how each operand of a product is transposed, and the result; None where it is not.

    The operands of a product are (batch, m, k) and (batch, k, n); others are transposed (XLA, dot_decomposer.cc,
    CanonicalizeDot). Exchanging two last axes is a part of the product (transpose_folding.cc), unless one of them
    consists of several axes of the operand. Axes of one element move for nothing.
    Example: the gradient of the weights of f32[4,512,640] @ f32[640,384] contracts the first two axes of both; one
    operand is brought to (384, 4 * 512), the other is (4 * 512, 640) already.
    """
    contracted, batched = op.equation.params["dimension_numbers"]
    orders: list[object] = []
    for position, (var, ours, shared) in enumerate(zip(op.equation.invars, contracted, batched, strict=True)):
        shape = var.aval.shape
        free = [axis for axis in range(len(shape)) if axis not in (*ours, *shared)]
        leading = sorted(shared) == list(range(len(shared)))
        inner = (*free, *sorted(ours)) if position == 0 else (*sorted(ours), *free)
        order = [axis for axis in (*sorted(shared), *inner) if shape[axis] != 1]
        folded = leading and len(ours) == 1 and len(free) <= 1
        orders.append(None if folded or dot_kind.depth(op) == 1 or order == sorted(order) else (*shared, *inner))
    return orders[0], orders[1], None


def _convolution_orders(op: Op) -> tuple[object, object, object]:
    numbers = op.equation.params["dimension_numbers"]
    rank = len(numbers.lhs_spec)
    spatial = tuple(range(1, rank - 1))
    image, kernel = (0, rank - 1, *spatial), (rank - 1, rank - 2, *range(rank - 2))
    return (
        None if tuple(numbers.lhs_spec) == image else tuple(numbers.lhs_spec),
        None if tuple(numbers.rhs_spec) == kernel else tuple(numbers.rhs_spec),
        None if tuple(numbers.out_spec) == image else tuple(numbers.out_spec),
    )
