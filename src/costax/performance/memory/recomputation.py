"""Recomputation: which values get a buffer because a fused kernel would compute them too often.

Two of XLA's limits are modelled. Arithmetic: what is computed once for each element of a broadcast may take longer than
a buffer takes to write and read. Code duplication: XLA does not fuse a value whose code would stand more than 15 times
in a kernel, each time for another index: slices of slices, as in an associative scan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from costax.performance.memory import dot_kind
from costax.performance.memory.compiler import CompilerModel
from costax.program.regions import Op, Region
from costax.rules.traits import ContractionKind, Function


def costly_to_recompute(region: Region, kept: Collection[int], model: CompilerModel) -> set[int]:
    """Return the values whose recomputation takes longer than writing and reading a buffer.

    kept: the values that have a buffer anyway.

    Example: exp(x) of f32[n], broadcast to f32[n, n] and used there. Fused, it is computed n * n times instead of n
    times, 20 instructions each. A buffer moves 2 * 4 * n bytes and costs a launch, 3.35 MB.
    n = 1024: 1,047,552 * 20 = 21 M instructions < 10 * 3.36 MB: recompute.
    n = 4096: 16,773,120 * 20 = 335 M instructions > 10 * 3.39 MB: a buffer.

    A long reduction of a row, and the elementwise work on its result, are exempt: a kernel that holds a row computes
    them once for the row, however many elements of the row use them.
    """
    evaluated = _evaluated_elements(region, kept, model)
    # By value: instructions to compute one element, those of the fused values before it included.
    work = [0.0] * len(region.values)
    of_rows, costly = set[int](), set[int]()
    for op in region.ops:
        inputs = [x for x in dict.fromkeys(op.inputs) if x is not None]
        result_size = _result_size(region, op)
        from_rows = bool(inputs) and all(x in of_rows and _size(region, x) == result_size for x in inputs)
        if _reduces_long_rows(op, model) or from_rows:
            of_rows.update(op.outputs)
            continue
        inside = (work[x] * _elements_read(op, _size(region, x), result_size, model) for x in inputs)
        operations = op.traits.operations + sum(inside)
        for x in op.outputs:
            copies = evaluated[x] - _size(region, x)
            # A buffer is written once and read once.
            buffer_bytes = 2 * region.values[x].nbytes + model.launch_bytes
            if x not in kept and copies * operations > model.operations_per_byte * buffer_bytes:
                costly.add(x)
            work[x] = 0.0 if x in kept or x in costly else operations
    return costly


def _evaluated_elements(region: Region, kept: Collection[int], model: CompilerModel) -> list[float]:
    """Return how many elements of each value are computed in the kernel that computes most of them.

    The ops are visited backwards, from the results of the kernels. A value of n elements that is broadcast to (n, n)
    inside a kernel is evaluated n * n times.
    """
    evaluated = [0.0] * len(region.values)
    for op in reversed(region.ops):
        result_size = _result_size(region, op)
        times = max((_size(region, x) if x in kept else evaluated[x] for x in op.outputs), default=0.0)
        for x in dict.fromkeys(op.inputs):
            if x is not None:
                size = _size(region, x)
                needed = size if _reduces_long_rows(op, model) else times * _elements_read(op, size, result_size, model)
                evaluated[x] = max(evaluated[x], needed)
    return evaluated


def _size(region: Region, x: int) -> float:
    return float(region.values[x].operand.size)


def _result_size(region: Region, op: Op) -> float:
    """Return the elements of the largest result of an op."""
    return max((_size(region, x) for x in op.outputs), default=0.0)


class CodeDuplication:
    """How often the code of each fused value stands in the kernels that compute it.

    Example: `x[1:] + x[:-1]` reads x at two indices, so the code of x stands twice in the kernel. Four such steps
    after each other need the first value 2**4 = 16 times, more than XLA allows.
    """

    def __init__(self, region: Region, kept: Collection[int], model: CompilerModel) -> None:
        """Take a region, the values that have a buffer, and the limits of a compiler."""
        self.region = region
        self.kept = kept
        self.model = model
        # By value: the ops that read it.
        self.users: list[list[int]] = [[] for _ in region.values]
        for number, op in enumerate(region.ops):
            for x in dict.fromkeys(op.inputs):
                if x is not None:
                    self.users[x].append(number)

    def values_to_keep(self) -> set[int]:
        """Return the values that XLA does not fuse because their code would be duplicated too often.

        Values are fused one by one, the largest first, because a large value saves most bytes; a value that would
        exceed the limit stays outside. XLA orders its fusions by time saved, which this order approximates.
        """
        candidates = [x for op in self.region.ops for x in op.outputs if x not in self.kept]
        fused = set(candidates)
        # Most programs stay below the limit even if everything is fused; one pass shows that.
        counts = self._counts(range(len(self.region.ops) - 1, -1, -1), fused)
        if max(counts.values(), default=0) <= self.model.most_copies:
            return set()
        fused = set[int]()
        for x in sorted(candidates, key=lambda x: (-self.region.values[x].nbytes, -x)):
            fused.add(x)
            ops = self._downstream(x, fused)
            if len(ops) > self.model.largest_kernel or self._counts(ops, fused).get(x, 0) > self.model.most_copies:
                fused.remove(x)
        return set(candidates) - fused

    def _downstream(self, x: int, fused: set[int]) -> list[int]:
        """Return the ops into whose kernels a value is fused, the last first, and then the op that computes it."""
        ops: set[int] = set()
        pending = [x]
        while pending and len(ops) <= self.model.largest_kernel:
            for number in self.users[pending.pop()]:
                if number not in ops:
                    ops.add(number)
                    pending += [y for y in self.region.ops[number].outputs if y in fused]
        return [*sorted(ops, reverse=True), self.region.values[x].op]

    def _counts(self, numbers: Iterable[int], fused: set[int]) -> dict[int, int]:
        """Return by fused value how often its code stands in the kernel that has most copies of it.

        numbers: the ops to visit, users before producers.
        """
        # By value: the ops that read it at an index of their own. By op and kernel: the copies of the op's code.
        readers: dict[int, set[int]] = {}
        copies: dict[int, dict[int, int]] = {}
        most: dict[int, int] = {}
        for number in numbers:
            op = self.region.ops[number]
            is_fused = bool(op.outputs) and all(x in fused for x in op.outputs)
            indexing = set[int]().union(*(readers.get(x, ()) for x in op.outputs))
            copies[number] = _sum_by_kernel(indexing, copies) if is_fused else {number: 1}
            if is_fused:
                most |= dict.fromkeys(op.outputs, max(copies[number].values(), default=0))
            for x in op.inputs:
                if x is not None:
                    # An elementwise op reads its operands at the index that its users ask for, so its operands are
                    # emitted once for each of those users' indices and not once more for the op.
                    same_index = is_fused and op.traits.elementwise
                    readers.setdefault(x, set()).update(indexing if same_index else {number})
        return most


def _sum_by_kernel(readers: Collection[int], copies: Mapping[int, Mapping[int, int]]) -> dict[int, int]:
    """Return by kernel the copies of all ops that read a value: that many copies of the value's code are emitted."""
    totals: dict[int, int] = {}
    for number in readers:
        for kernel, count in copies[number].items():
            totals[kernel] = totals.get(kernel, 0) + count
    return totals


def reduces_last_axis(op: Op) -> bool:
    """Say whether an op reduces the last axis alone, by a sum, a maximum or a minimum.

    XLA fuses such a row reduction into its consumer: a block of threads holds a whole row, reduces it and goes on.
    """
    if not op.traits.reduction or op.traits.function not in (Function.SUM, Function.MAXIMUM, Function.MINIMUM):
        return False
    return not op.traits.windowed and tuple(op.equation.params["axes"]) == (len(op.equation.invars[0].aval.shape) - 1,)


def _reduces_long_rows(op: Op, model: CompilerModel) -> bool:
    return reduces_last_axis(op) and op.equation.invars[0].aval.shape[-1] >= model.shortest_reduction


def _elements_read(op: Op, operand_size: float, result_size: float, model: CompilerModel) -> float:
    """Return how many elements of an operand are read for one element of the result.

    k for a product over k, n for a sum over n elements (operand_size / result_size), 1 for elementwise work.
    """
    if op.traits.contraction is ContractionKind.PRODUCT and dot_kind.kind(op, model):
        return float(dot_kind.depth(op))
    if op.traits.reads_once:
        return operand_size / result_size if result_size else 0.0
    return 1.0
