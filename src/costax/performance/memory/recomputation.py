"""Repeating: which fused values are better written once, for they would be worked out too often.

XLA does not fuse what would be emitted more than 15 times in one kernel, each time for another index: slices of slices,
as in an associative scan. And it weighs arithmetic against bytes: what is broadcast is worked out for each copy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from costax.performance.memory import dot_kind
from costax.program.regions import Op, Region
from costax.rules.traits import ContractionKind, Function

# Source: XLA, fusion_node_indexing_evaluation.cc, kAllowedCodeDuplication.
_MOST_COPIES: Final = 15
# Equations of a kernel, where copies are counted at all: so that counting takes no longer than the program is long.
_LARGEST: Final = 256
# Operations that an H100 does while it moves a byte: 132 x 128 a clock at 1.98 GHz, and 3.35 TB/s.
_OPERATIONS_A_BYTE: Final = 10.0


def spread(region: Region, kept: Collection[int], launch: float) -> set[int]:
    """Return the values whose copies would take longer to work out than a buffer to write and read.

    kept: those that have a buffer anyway. launch: what one kernel more is worth, in bytes.

    What is known of a row, and what follows from it alone, a kernel works out once for the row.
    """
    evaluated = _evaluated(region, kept)
    work = [0.0] * len(region.values)
    of_rows, found = set[int](), set[int]()
    for op in region.ops:
        inputs = [x for x in dict.fromkeys(op.inputs) if x is not None]
        made = _made(region, op)
        if _once_a_row(op) or (inputs and all(x in of_rows and _size(region, x) == made for x in inputs)):
            of_rows.update(op.outputs)
            continue
        inside = (work[x] * _share(op, _size(region, x), made) for x in inputs)
        operations = op.traits.operations + sum(inside)
        for x in op.outputs:
            copies = evaluated[x] - _size(region, x)
            buffer = 2 * region.values[x].nbytes + launch
            if x not in kept and copies * operations > _OPERATIONS_A_BYTE * buffer:
                found.add(x)
            work[x] = 0.0 if x in kept or x in found else operations
    return found


def _evaluated(region: Region, kept: Collection[int]) -> list[float]:
    """Return how many elements of each value are worked out in the kernel that needs most of them."""
    evaluated = [0.0] * len(region.values)
    for op in reversed(region.ops):
        made = _made(region, op)
        times = max((_size(region, x) if x in kept else evaluated[x] for x in op.outputs), default=0.0)
        for x in dict.fromkeys(op.inputs):
            if x is not None:
                elements = _size(region, x)
                needed = elements if _once_a_row(op) else times * _share(op, elements, made)
                evaluated[x] = max(evaluated[x], needed)
    return evaluated


def _size(region: Region, x: int) -> float:
    return float(region.values[x].operand.size)


def _made(region: Region, op: Op) -> float:
    return max((_size(region, x) for x in op.outputs), default=0.0)


class Copies:
    """How often each value is emitted in the kernels that take it in."""

    def __init__(self, region: Region, kept: Collection[int]) -> None:
        """Take the values that have a buffer."""
        self.region = region
        self.kept = kept
        self.users: list[list[int]] = [[] for _ in region.values]
        for number, op in enumerate(region.ops):
            for x in dict.fromkeys(op.inputs):
                if x is not None:
                    self.users[x].append(number)

    def too_many(self) -> set[int]:
        """Return the values that stay outside. The largest are taken in first, for that saves most."""
        made = [x for op in self.region.ops for x in op.outputs if x not in self.kept]
        fused = set(made)
        counts = self._counts(range(len(self.region.ops) - 1, -1, -1), fused)
        if max(counts.values(), default=0) <= _MOST_COPIES:
            return set()
        fused = set[int]()
        for x in sorted(made, key=lambda x: (-self.region.values[x].nbytes, -x)):
            fused.add(x)
            kernels = self._downstream(x, fused)
            if len(kernels) > _LARGEST or self._counts(kernels, fused).get(x, 0) > _MOST_COPIES:
                fused.remove(x)
        return set(made) - fused

    def _downstream(self, x: int, fused: set[int]) -> list[int]:
        """Return the steps into whose kernels a value goes, the one that makes it included, the last first."""
        found: set[int] = set()
        open_to = [x]
        while open_to and len(found) <= _LARGEST:
            for number in self.users[open_to.pop()]:
                if number not in found:
                    found.add(number)
                    open_to += [y for y in self.region.ops[number].outputs if y in fused]
        return [*sorted(found, reverse=True), self.region.values[x].op]

    def _counts(self, numbers: Iterable[int], fused: set[int]) -> dict[int, int]:
        """Return how often the fused results of some steps are emitted, at most in one kernel."""
        readers: dict[int, set[int]] = {}
        copies: dict[int, dict[int, int]] = {}
        most: dict[int, int] = {}
        for number in numbers:
            op = self.region.ops[number]
            taken_in = bool(op.outputs) and all(x in fused for x in op.outputs)
            indexing = set[int]().union(*(readers.get(x, ()) for x in op.outputs))
            copies[number] = _emitted(indexing, copies) if taken_in else {number: 1}
            if taken_in:
                most |= dict.fromkeys(op.outputs, max(copies[number].values(), default=0))
            for x in op.inputs:
                if x is not None:
                    # An elementwise op reads its operands at the index that it writes, so it needs no copy of its own.
                    same = taken_in and op.traits.elementwise
                    readers.setdefault(x, set()).update(indexing if same else {number})
        return most


def _emitted(readers: Collection[int], copies: Mapping[int, Mapping[int, int]]) -> dict[int, int]:
    """Return by kernel how often a value is emitted that these steps read."""
    found: dict[int, int] = {}
    for number in readers:
        for kernel, count in copies[number].items():
            found[kernel] = found.get(kernel, 0) + count
    return found


def along_rows(op: Op) -> bool:
    """Say whether a op reduces the last axis alone: a kernel that has a row at hand does it, and goes on with it."""
    if not op.traits.reduction or op.traits.function not in (Function.SUM, Function.MAXIMUM, Function.MINIMUM):
        return False
    return not op.traits.windowed and tuple(op.equation.params["axes"]) == (len(op.equation.invars[0].aval.shape) - 1,)


# Source: XLA, priority_fusion.cc: smaller reductions are loops inside the kernel that needs them.
_SMALL_REDUCTION: Final = 16


def _once_a_row(op: Op) -> bool:
    return along_rows(op) and op.equation.invars[0].aval.shape[-1] >= _SMALL_REDUCTION


def _share(op: Op, elements: float, made: float) -> float:
    """Return how many elements of an operand are read for one element of the result."""
    if op.traits.contraction is ContractionKind.PRODUCT and dot_kind.kind(op):
        return float(dot_kind.depth(op))
    if op.traits.reads_once:
        return elements / made if made else 0.0
    return 1.0
