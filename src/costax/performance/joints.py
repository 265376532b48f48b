"""Which kernels XLA joins on a GPU: products with their epilogues, and kernels that read the same arrays.

A product, or a convolution, applies the elementwise work on its result before it writes it: a bias, a residual, an
activation function. The operands of this work are arrays, or arrays that are repeated. Work that reads an intermediate
value twice, as gelu and silu do, or that widens the result and goes on is a kernel of its own.

Kernels that go over the same elements are one with several results if one of them reads what another reads or writes:
two sums of one array, a gradient and its sum over the batch. Sums over different axes stay apart.

Source: XLA, gemm_fusion.cc and multi_output_fusion.cc, tried against modules that XLA compiled for an H100.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final, NamedTuple

from costax.core import dtypes
from costax.program.regions import Op, Region
from costax.rules.traits import ContractionKind, Function

if TYPE_CHECKING:
    from costax.performance.memory.fusion import Fusion

# What cuDNN applies to the result of a convolution.
_OF_CONVOLUTIONS: Final = (Function.ADD, Function.MAXIMUM, Function.CONVERT)


class Joint(NamedTuple):
    """How a kernel is a part of a joined one.

    place: equal for the kernels that are one. read, written: the share of the bytes of the kernel that the joined one
    still reads and writes.
    """

    place: object
    read: float
    written: float


@dataclass
class _Part:
    """A kernel of a region. shape: of the elements that it goes over; () if it joins no other. axes: of a reduction."""

    ops: list[Op]
    reads: frozenset[int]
    writes: frozenset[int]
    shape: tuple[int, ...] = ()
    axes: tuple[int, ...] | None = None


def joints(region: Region, fusion: Fusion, ops_of: Mapping[int, list[Op]]) -> dict[int, tuple[int, float, float]]:
    """Return the kernels of a region that XLA joins: by last op, the last op of the first of them, and two shares.

    ops_of: the ops of each kernel, by its last op. The shares are those of `Joint`.
    """
    plan = _Plan(region, fusion, ops_of)
    plan.join_epilogues()
    plan.join_siblings()
    return plan.shares()


class _Plan:
    """Which kernels of a region are one."""

    def __init__(self, region: Region, fusion: Fusion, ops_of: Mapping[int, list[Op]]) -> None:
        self.region, self.buffers = region, fusion.buffers
        self.parts = {
            end: _Part(ops, frozenset(fusion.reads[end]), frozenset(region.ops[end].outputs) & fusion.buffers)
            for end, ops in sorted(ops_of.items())
            if not region.ops[end].regions
        }
        self.users: dict[int, list[int]] = defaultdict(list)
        for number, op in enumerate(region.ops):
            for x in set(op.inputs):
                if x is not None:
                    self.users[x].append(number)
        for x in region.outputs:
            if x is not None:
                self.users[x].append(-1)
        # By last op: the last op of the first kernel of its group, and the groups.
        self.first = {end: end for end in self.parts}
        self.group = {end: [end] for end in self.parts}

    def join_epilogues(self) -> None:
        """Join each product with the kernel of the elementwise work on its result."""
        for end, part in self.parts.items():
            for x in part.reads:
                producer = self.region.values[x].op
                if producer in self.parts and self._is_epilogue(end, x, self.region.ops[producer]):
                    self._join(producer, end)
                    break

    def _is_epilogue(self, end: int, x: int, product: Op) -> bool:
        """Say whether a product whose result is x can apply all the work of the kernel that ends with an op."""
        kind, ops = product.traits.contraction, {id(op) for op in self.parts[end].ops}
        if kind not in (ContractionKind.PRODUCT, ContractionKind.CONVOLUTION) or len(product.outputs) != 1:
            return False
        chain: list[Op] = []
        while True:
            users = self.users[x]
            if len(users) != 1 or users[0] < 0:
                return False
            op = self.region.ops[users[0]]
            others = [y for y in op.inputs if y is not None and y != x]
            plain = op.traits.elementwise and len(op.outputs) == 1 and id(op) in ops
            if not plain or op.inputs.count(x) != 1 or not all(map(self._is_at_hand, others)):
                return False
            chain.append(op)
            x = op.outputs[0]
            if users[0] == end:
                break
        if kind is ContractionKind.CONVOLUTION and any(op.traits.function not in _OF_CONVOLUTIONS for op in chain):
            return False
        return len(chain) == 1 or not any(map(self._widens, chain))

    def _is_at_hand(self, x: int) -> bool:
        """Say whether a value is an array in memory, a scalar, or such a value repeated."""
        value = self.region.values[x]
        if x in self.buffers or value.op < 0 or not value.operand.shape:
            return True
        op = self.region.ops[value.op]
        return op.traits.repeats and all(y is None or self._is_at_hand(y) for y in op.inputs)

    def _widens(self, op: Op) -> bool:
        before, after = (self.region.values[x or 0].operand.dtype for x in (op.inputs[0], op.outputs[0]))
        return op.traits.function is Function.CONVERT and dtypes.bits(after) > dtypes.bits(before)

    def join_siblings(self) -> None:
        """Join kernels that go over the same elements, of which one reads what another reads or writes."""
        free = {end: part for end, part in self.parts.items() if self.group[self.first[end]] == [end]}
        for part in free.values():
            self._measure(part)
        before = self._dependencies()
        readers: dict[int, list[int]] = defaultdict(list)
        for end, part in free.items():
            if not part.shape:
                continue
            for x in sorted(part.reads):
                value = self.region.values[x]
                if prod(map(int, value.operand.shape)) < prod(part.shape):
                    continue
                writer = [value.op] if value.op in free else []
                for other in [*writer, *readers[x]]:
                    first = self.first[other]
                    if self.first[end] == end and first != end and self._matches(first, end, before):
                        self._join(first, end)
                        # What needs one of the two needs both.
                        both = 1 << first | 1 << end
                        needed = (before[first] | before[end]) & ~both
                        before[first] = before[end] = needed
                        for later, bits in before.items():
                            if bits & both:
                                before[later] = bits | needed | both
                readers[x].append(end)

    def _measure(self, part: _Part) -> None:
        """Note the elements that a kernel goes over, if it is a loop or a reduction of whole arrays."""
        last = part.ops[0] if len(part.ops) == 1 else max(part.ops, key=lambda op: min(op.outputs, default=-1))
        simple = (op.traits.elementwise or op.traits.repeats or op.traits.reduction for op in part.ops)
        if not all(simple) or any(op.traits.partial or op.traits.windowed or op.regions for op in part.ops):
            return
        reductions = [op for op in part.ops if op.traits.reduction]
        if not reductions:
            part.shape = tuple(map(int, self.region.values[last.outputs[0]].operand.shape))
        elif reductions == [last] and "axes" in last.equation.params and last.inputs[0] is not None:
            part.shape = tuple(map(int, self.region.values[last.inputs[0]].operand.shape))
            part.axes = tuple(last.equation.params["axes"])

    def _matches(self, first: int, end: int, before: Mapping[int, int]) -> bool:
        """Say whether a kernel can join a group: the same elements, and no way around between them."""
        part = self.parts[end]
        for other in self.group[first]:
            theirs = self.parts[other]
            if theirs.shape != part.shape or (theirs.axes and part.axes and theirs.axes != part.axes):
                return False
            if theirs.axes and theirs.writes & part.reads:
                return False
        members = sum(1 << other for other in self.group[first])
        needed = {self.region.values[x].op for x in part.reads}.difference(self.group[first])
        return not any(before.get(number, 0) & members for number in needed)

    def _dependencies(self) -> dict[int, int]:
        """Return the kernels, and ops with regions, that each needs, as bits by last op."""
        before: dict[int, int] = {}
        for number, op in enumerate(self.region.ops):
            if number in self.parts:
                reads: Iterable[int | None] = self.parts[number].reads
            elif op.regions:
                reads = op.inputs
            else:
                continue
            bits = 0
            for x in reads:
                producer = -1 if x is None else self.region.values[x].op
                if producer >= 0:
                    bits |= before.get(producer, 0) | 1 << producer
            before[number] = bits
        return before

    def _join(self, first: int, end: int) -> None:
        self.first[end] = first
        self.group[first] += self.group.pop(end)

    def shares(self) -> dict[int, tuple[int, float, float]]:
        """Return the first kernel of each joined one, and the shares of bytes that are still read and written."""
        found: dict[int, tuple[int, float, float]] = {}
        for first, group in self.group.items():
            if len(group) == 1:
                continue
            inside = set[int]().union(*(self.parts[end].writes for end in group))
            read: set[int] = set()
            for end in group:
                part = self.parts[end]
                kept = part.reads - read - inside
                read |= part.reads
                # A result that the group alone uses is never written.
                written = {x for x in part.writes if not self._only_inside(x, group)}
                found[end] = (first, self._bytes(kept, part.reads), self._bytes(written, part.writes))
        return found

    def _only_inside(self, x: int, group: Sequence[int]) -> bool:
        ops = {id(op) for end in group for op in self.parts[end].ops}
        return all(user >= 0 and id(self.region.ops[user]) in ops for user in self.users[x])

    def _bytes(self, some: Iterable[int], every: Iterable[int]) -> float:
        whole = sum(float(self.region.values[x].nbytes) for x in every)
        return sum(float(self.region.values[x].nbytes) for x in some) / whole if whole else 1.0
