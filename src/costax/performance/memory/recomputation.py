"""Repeating: which fused values are better written once, for they would be worked out too often.

XLA does not fuse what would be emitted more than 15 times in one kernel, each time for another index: slices of slices,
as in an associative scan. And it weighs arithmetic against bytes: what is broadcast is worked out for each copy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from costax.performance.memory import dot_kind
from costax.program.regions import Region, Step

# Source: XLA, fusion_node_indexing_evaluation.cc, kAllowedCodeDuplication.
_MOST_COPIES: Final = 15
# Equations of a kernel, where copies are counted at all: so that counting takes no longer than the program is long.
_LARGEST: Final = 256
# Operations that an H100 does while it moves a byte: 132 x 128 a clock at 1.98 GHz, and 3.35 TB/s.
_OPERATIONS_A_BYTE: Final = 10.0
# Operations of an element, where they are not one.
_OPERATIONS: Final[Mapping[str, float]] = {
    **dict.fromkeys(["broadcast_in_dim", "concatenate", "iota", "pad", "rev", "slice", "transpose", "copy"], 0.0),
    **dict.fromkeys(["acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh"], 20.0),
    **dict.fromkeys(["div", "exp", "exp2", "expm1", "log", "log1p", "log2", "logistic", "rem", "rsqrt"], 20.0),
    **dict.fromkeys(["sin", "sinh", "sqrt", "tan", "tanh", "erf", "erfc"], 20.0),
    **dict.fromkeys(["digamma", "erf_inv", "lgamma", "pow", "zeta", "bessel_i0e", "bessel_i1e"], 50.0),
    **dict.fromkeys(["random_bits", "threefry2x32", "random_split", "random_fold_in", "random_seed"], 100.0),
}


def spread(region: Region, kept: Collection[int], launch: float) -> set[int]:
    """Return the values whose copies would take longer to work out than a buffer to write and read.

    kept: those that have a buffer anyway. launch: what one kernel more is worth, in bytes.

    What is known of a row, and what follows from it alone, a kernel works out once for the row.
    """
    evaluated = _evaluated(region, kept)
    work = [0.0] * len(region.values)
    of_rows, found = set[int](), set[int]()
    for step in region.steps:
        inputs = [x for x in dict.fromkeys(step.inputs) if x is not None]
        made = _made(region, step)
        if _once_a_row(step) or (inputs and all(x in of_rows and _size(region, x) == made for x in inputs)):
            of_rows.update(step.outputs)
            continue
        inside = (work[x] * _share(step, _size(region, x), made) for x in inputs)
        operations = _OPERATIONS.get(step.name, 1.0) + sum(inside)
        for x in step.outputs:
            copies = evaluated[x] - _size(region, x)
            buffer = 2 * region.values[x].nbytes + launch
            if x not in kept and copies * operations > _OPERATIONS_A_BYTE * buffer:
                found.add(x)
            work[x] = 0.0 if x in kept or x in found else operations
    return found


def _evaluated(region: Region, kept: Collection[int]) -> list[float]:
    """Return how many elements of each value are worked out in the kernel that needs most of them."""
    evaluated = [0.0] * len(region.values)
    for step in reversed(region.steps):
        made = _made(region, step)
        times = max((_size(region, x) if x in kept else evaluated[x] for x in step.outputs), default=0.0)
        for x in dict.fromkeys(step.inputs):
            if x is not None:
                elements = _size(region, x)
                needed = elements if _once_a_row(step) else times * _share(step, elements, made)
                evaluated[x] = max(evaluated[x], needed)
    return evaluated


def _size(region: Region, x: int) -> float:
    return float(region.values[x].operand.size)


def _made(region: Region, step: Step) -> float:
    return max((_size(region, x) for x in step.outputs), default=0.0)


class Copies:
    """How often each value is emitted in the kernels that take it in."""

    def __init__(self, region: Region, kept: Collection[int], same_index: Collection[str]) -> None:
        """Take the values that have a buffer, and the operations that read their operands where they write."""
        self.region = region
        self.kept = kept
        self.same_index = same_index
        self.users: list[list[int]] = [[] for _ in region.values]
        for number, step in enumerate(region.steps):
            for x in dict.fromkeys(step.inputs):
                if x is not None:
                    self.users[x].append(number)

    def too_many(self) -> set[int]:
        """Return the values that stay outside. The largest are taken in first, for that saves most."""
        made = [x for step in self.region.steps for x in step.outputs if x not in self.kept]
        fused = set(made)
        counts = self._counts(range(len(self.region.steps) - 1, -1, -1), fused)
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
                    open_to += [y for y in self.region.steps[number].outputs if y in fused]
        return [*sorted(found, reverse=True), self.region.values[x].step]

    def _counts(self, numbers: Iterable[int], fused: set[int]) -> dict[int, int]:
        """Return how often the fused results of some steps are emitted, at most in one kernel."""
        readers: dict[int, set[int]] = {}
        copies: dict[int, dict[int, int]] = {}
        most: dict[int, int] = {}
        for number in numbers:
            step = self.region.steps[number]
            taken_in = bool(step.outputs) and all(x in fused for x in step.outputs)
            indexing = set[int]().union(*(readers.get(x, ()) for x in step.outputs))
            copies[number] = _emitted(indexing, copies) if taken_in else {number: 1}
            if taken_in:
                most |= dict.fromkeys(step.outputs, max(copies[number].values(), default=0))
            for x in step.inputs:
                if x is not None:
                    same = taken_in and step.name in self.same_index
                    readers.setdefault(x, set()).update(indexing if same else {number})
        return most


def _emitted(readers: Collection[int], copies: Mapping[int, Mapping[int, int]]) -> dict[int, int]:
    """Return by kernel how often a value is emitted that these steps read."""
    found: dict[int, int] = {}
    for number in readers:
        for kernel, count in copies[number].items():
            found[kernel] = found.get(kernel, 0) + count
    return found


def along_rows(step: Step) -> bool:
    """Say whether a step reduces the last axis alone: a kernel that has a row at hand does it, and goes on with it."""
    if step.name not in ("reduce_sum", "reduce_max", "reduce_min"):
        return False
    return tuple(step.equation.params["axes"]) == (len(step.equation.invars[0].aval.shape) - 1,)


# Source: XLA, priority_fusion.cc: smaller reductions are loops inside the kernel that needs them.
_SMALL_REDUCTION: Final = 16


def _once_a_row(step: Step) -> bool:
    return along_rows(step) and step.equation.invars[0].aval.shape[-1] >= _SMALL_REDUCTION


def _share(step: Step, elements: float, made: float) -> float:
    """Return how many elements of an operand are read for one element of the result."""
    if step.name == "dot_general" and dot_kind.kind(step):
        return float(dot_kind.depth(step))
    if step.name in _WHOLE or step.name.startswith(("reduce", "arg")):
        return elements / made if made else 0.0
    return 1.0


# What reads all of an operand once, whatever its result is.
_WHOLE: Final = frozenset(
    ["dot_general", "concatenate", "pad", "dynamic_update_slice", "scatter", "scatter-add", "sort", "cumsum", "cumprod"]
)
