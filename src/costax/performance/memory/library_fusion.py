"""Library fusion: the parts of a program that XLA for CPUs gives to YNNPACK whole.

Each product and convolution is a part. A part grows from each reduction, the last first: upwards to operands that
nothing outside the part reads, products too, downwards while the result has one reader. The arrays inside the
part are YNNPACK's own and no buffers of XLA, whose memory analysis does not count them. Source: XLA,
library_rewriter.cc and ynn_support.cc.
"""

from __future__ import annotations

from math import prod

from costax.performance.memory import dot_kind
from costax.program.regions import Op, Region
from costax.rules.traits import ContractionKind, Function

_DTYPES = frozenset({"f64", "f32", "i8", "u8"})
_PRODUCTS = frozenset({("f32", "f32"), ("f64", "f64"), ("i8", "i32")})
_REDUCTIONS = (Function.SUM, Function.MAXIMUM, Function.MINIMUM)
# Elementwise work on fewer elements is not worth a call. Source: IsInstructionPreferredByYnn.
_LEAST_ELEMENTS = 4096
# Source: IsDotSupportedByYnn, IsConvolutionOpSupportedByYnn.
_LEAST_EXTENT, _LEAST_CHANNELS = 8, 16


class LibraryCalls:
    """The library calls of a region.

    root: by op, the last op of the call that it is a part of, whose result is that of the call. inputs: by last op, the
    values that the call reads.
    """

    def __init__(self, region: Region) -> None:
        """Find the calls of a region."""
        self.region = region
        self.root: dict[int, int] = {}
        self.inputs: dict[int, tuple[int, ...]] = {}
        self._members: dict[int, set[int]] = {}
        self._users: list[set[int]] = [set() for _ in region.values]
        for number, op in enumerate(region.ops):
            for x in op.inputs:
                if x is not None:
                    self._users[x].add(number)
        # A result of the region has a reader that is no op.
        for x in region.outputs:
            if x is not None:
                self._users[x].add(-1)
        for number in range(len(region.ops) - 1, -1, -1):
            op = region.ops[number]
            if number in self.root:
                continue
            if _starts(region, op):
                self.root[number] = number
                self._members[number] = {number}
            elif op.traits.reduction and _supported(region, op):
                self._grow(number)
        for root, members in self._members.items():
            read = [x for m in sorted(members) for x in region.ops[m].inputs if x is not None]
            self.inputs[root] = tuple(dict.fromkeys(x for x in read if region.values[x].op not in members))

    def _grow(self, start: int) -> None:
        members, root = {start}, start
        changed = True
        while changed:
            changed = False
            pending = list(members)
            while pending:
                number = pending.pop()
                for x in self.region.ops[number].inputs:
                    producer = -1 if x is None else self.region.values[x].op
                    if x is None or producer < 0 or producer in members or not self._users[x] <= members:
                        continue
                    added = self._members.get(producer) if producer in self.root else {producer}
                    if added is None or (len(added) == 1 and not self._supports(producer)):
                        continue
                    members |= added
                    pending += added
                    changed = True
            users = self._users[self.region.ops[root].outputs[0]]
            user = next(iter(users)) if len(users) == 1 else -1
            if user >= 0 and user not in self.root and self._supports(user):
                members.add(user)
                root, changed = user, True
            elif user in self.root and self.root[user] != root:
                below = self.root[user]
                members |= self._members[below]
                root, changed = below, True
        for number in members:
            self._members.pop(number, None)
            self.root[number] = root
        self._members[root] = members

    def _supports(self, number: int) -> bool:
        return _supported(self.region, self.region.ops[number]) or _starts(self.region, self.region.ops[number])


def _starts(region: Region, op: Op) -> bool:
    """Say whether a call can start at an op: a product or a two-dimensional convolution that YNNPACK computes."""
    if op.inserted or len(op.outputs) != 1 or len(op.inputs) < 2 or None in op.inputs[:2]:
        return False
    values = region.values
    dtypes = values[op.inputs[0] or 0].operand.dtype, values[op.outputs[0]].operand.dtype
    if op.traits.contraction is ContractionKind.PRODUCT:
        m, n = dot_kind.free_extents(op)
        (ours, theirs), (left, _) = op.equation.params["dimension_numbers"]
        # The left operand must be (batch, m, k) and the right (batch, k, n) for the library to read it.
        shape = op.equation.invars[0].aval.shape
        rows_first = set(ours) == set(range(len(shape) - len(ours), len(shape)))
        large = max(m, n, dot_kind.depth(op)) >= _LEAST_EXTENT
        del theirs, left
        return dtypes in _PRODUCTS and dot_kind.depth(op) > 1 and rows_first and min(m, n) > 1 and large
    if op.traits.contraction is ContractionKind.CONVOLUTION:
        params = op.equation.params
        shapes = [v.aval.shape for v in (*op.equation.invars[:2], *op.equation.outvars)]
        numbers = params["dimension_numbers"]
        channels = max(shapes[0][numbers.lhs_spec[1]], shapes[2][numbers.out_spec[1]])
        grows = any(
            max(shapes[2][b], shapes[1][c]) > shapes[0][a]
            for a, b, c in zip(numbers.lhs_spec[2:], numbers.out_spec[2:], numbers.rhs_spec[2:], strict=True)
        )
        plain = params["batch_group_count"] == 1 and all(n == 1 for n in params["lhs_dilation"])
        return (
            dtypes[0] in ("f32", "f64") and len(shapes[0]) == 4 and plain and channels > _LEAST_CHANNELS and not grows
        )
    return False


def _supported(region: Region, op: Op) -> bool:
    """Say whether an op can be a part of a call."""
    traits, values = op.traits, region.values
    repeats_a_number = traits.repeats and set(op.inputs) == {None}
    if op.regions or len(op.outputs) != 1 or (op.inserted and not repeats_a_number):
        return False
    operands = [values[x].operand for x in (*op.inputs, *op.outputs) if x is not None]
    if any(operand.dtype not in _DTYPES for operand in operands):
        return False
    large = any(prod(map(int, operand.shape)) >= _LEAST_ELEMENTS for operand in operands)
    if traits.reduction:
        return large and not traits.windowed and traits.function in _REDUCTIONS
    if traits.elementwise:
        return large and len(op.inputs) <= 2 and traits.function is not Function.CLAMP
    return traits.permutes or traits.repeats
