"""The trip count of a `while` loop of an HLO module, derived from its condition and its body.

The condition compares numbers that change by a constant step in each iteration with each other, and the module
determines their start: `compare(i, 80), direction=LT` with `i` from 0 and `add(i, 1)`. Counters and bounds may stand
anywhere in the tuple that the loop carries, conditions and steps may stand in fusions and calls, several comparisons
may be joined by `and`, and the body may compare for the next iteration and carry the boolean. The laws are those of
loops in a jaxpr (`rules/higher_order/trip_count.py`). Any other trip count is unknown and never guessed.

XLA: `while_loop_analysis.cc`, ComputeWhileLoopTripCount, whose result optimised modules carry as `known_trip_count`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

from costax.core import dtypes
from costax.hlo.records import Computation, Instruction, Module, Shape, wrapped
from costax.rules.higher_order.trip_count import steps

# A real module takes some hundred steps a loop. A damaged file could ask for 2^n: n sums of two equal operands.
_MOST_STEPS: Final = 10**6
_DEEPEST: Final = 60

_NEGATED: Final = {"LT": "GE", "GE": "LT", "GT": "LE", "LE": "GT", "EQ": "NE", "NE": "EQ"}
# Opcodes that hand on their operand, or a scalar in another shape.
_TRANSPARENT: Final = frozenset({"copy", "copy-done", "bitcast", "reshape", "broadcast", "opt-barrier", "transpose"})

_ARITHMETIC: Final = frozenset({"add", "subtract", "multiply", "negate", "convert", "maximum", "minimum"})

Path = tuple[int, ...]
"""Which part of a tuple: (2, 0) is element 0 of element 2; () is the whole value."""


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """A computation. call: the instruction that runs it, and the frame of that instruction.

    Without a call the frame stands for every run of the computation. carry: its parameter is what a loop carries.
    """

    computation: Computation
    call: Instruction | None = None
    parent: _Frame | None = None
    carry: bool = False


class _Value(NamedTuple):
    """A part of an instruction in a frame."""

    instruction: Instruction
    path: Path
    frame: _Frame


@dataclass(frozen=True, slots=True)
class _Linear:
    """A constant plus multiples of carried numbers, by their path: (1, {(0,): 2}) is 2 i + 1, where i is element 0."""

    constant: int
    factors: Mapping[Path, int]

    def plus(self, other: _Linear, times: int = 1) -> _Linear:
        paths = {**self.factors, **other.factors}
        sums = {path: self.factors.get(path, 0) + times * other.factors.get(path, 0) for path in paths}
        return _Linear(self.constant + times * other.constant, {path: n for path, n in sums.items() if n})

    def scaled(self, times: int) -> _Linear:
        return _Linear(0, {}).plus(self, times)


class _Sequence(NamedTuple):
    """A number at the beginning of iteration k: start + k * step."""

    start: int
    step: int


class TripCounts:
    """The trip counts of the loops of a module."""

    def __init__(self, module: Module) -> None:
        """Take the module; a trip count is derived on request."""
        # Computation id -> the instructions that call it, with their computations.
        self._callers: dict[int, list[tuple[Computation, Instruction]]] = defaultdict(list)
        for computation in module.computations.values():
            for instruction in computation.instructions:
                for callee in dict.fromkeys(instruction.called):
                    self._callers[callee.id].append((computation, instruction))
        self._entry = module.entry
        self._steps_left = _MOST_STEPS
        self._depth = 0
        self._parameters: dict[tuple[int, int, Path], int | None] = {}

    def of(self, loop: Instruction) -> int | None:
        """Return how often the body of a `while` runs: what XLA proved, else what condition and body determine."""
        if loop.known_trip_count is not None:
            return loop.known_trip_count
        if len(loop.called) < 2 or len(loop.operands) != 1:
            return None
        condition = loop.callee(1)
        counted = _LoopCount(self, loop)
        count = counted.until_false(_Value(condition.root, (), _Frame(condition, carry=True)))
        return None if count is None or count == inf else int(count)

    # Values.

    def origin(self, value: _Value) -> _Value | None:
        """Return the instruction that computes a value, through tuples, copies, calls, fusions and fixed carries."""
        ins, path, frame = value
        while self._step():
            if ins.opcode == "get-tuple-element":
                ins, path = ins.operand(0), (ins.tuple_index, *path)
            elif ins.opcode == "tuple" and path:
                if path[0] >= len(ins.operands):
                    return None
                ins, path = ins.operands[path[0]], path[1:]
            elif ins.opcode in _TRANSPARENT and ins.operands and not _reinterprets(ins):
                ins = ins.operands[0]
                if ins.opcode == "copy-start":
                    ins = ins.operand(0)
            elif ins.opcode in ("async-done", "async-update") and ins.operands:
                ins = ins.operand(0)
            elif ins.opcode in ("call", "fusion", "async-start") and ins.called:
                frame = _Frame(ins.called[0], ins, frame)
                ins = frame.computation.root
            elif ins.opcode == "parameter" and frame.call is not None and frame.parent is not None:
                ins, frame = frame.call.operand(ins.parameter_number), frame.parent
            elif ins.opcode == "while" and len(ins.called) == 2 and self._fixed(ins, path):
                ins = ins.operand(0)
            else:
                return _Value(ins, path, frame)
        return None

    def linear(self, value: _Value) -> _Linear | None:
        """Return an integer scalar as a linear form of what the loop of its frame carries, or None."""
        if self._depth > _DEEPEST:
            return None
        self._depth += 1
        form = self._linear(value)
        self._depth -= 1
        return form

    def _linear(self, value: _Value) -> _Linear | None:
        found = self.origin(value)
        if found is None:
            return None
        ins, path, frame = found
        if ins.opcode == "parameter":
            if frame.carry:
                return _Linear(0, {path: 1})
            number = self._parameter(frame.computation, ins.parameter_number, path)
            return None if number is None else _Linear(number, {})
        values = dtypes.integers(ins.shape.dtype)
        if path or ins.shape.elements != 1 or values is None:
            return None
        if ins.opcode == "constant":
            return None if ins.integer is None else _Linear(ins.integer, {})
        if ins.opcode not in _ARITHMETIC:
            return None
        operands = [self.linear(_Value(x, (), frame)) for x in ins.operands]
        parts = [x for x in operands if x is not None]
        if not parts or len(parts) < len(operands):
            return None
        if ins.opcode == "convert" and not _keeps(parts[0], dtypes.integers(ins.operand(0).shape.dtype), values):
            return None
        form = _combined(ins.opcode, parts)
        return form if form is None or form.factors else _Linear(wrapped(form.constant, values), {})

    def integer(self, value: _Value) -> int | None:
        """Return a value that the module determines, or None."""
        form = self.linear(value)
        return form.constant if form is not None and not form.factors else None

    def initial(self, loop: Instruction, path: Path) -> int | None:
        """Return a part of what a loop carries, before the first iteration."""
        computation = self._home(loop)
        return None if computation is None else self.integer(_Value(loop.operand(0), path, _Frame(computation)))

    def initial_boolean(self, loop: Instruction, path: Path) -> bool | None:
        """Return a boolean that a loop carries, before the first iteration."""
        computation = self._home(loop)
        found = None if computation is None else self.origin(_Value(loop.operand(0), path, _Frame(computation)))
        if found is None or found.path:
            return None
        ins, _, frame = found
        if ins.opcode == "constant":
            return None if ins.integer is None else bool(ins.integer)
        if ins.opcode != "compare" or ins.comparison_direction not in _NEGATED:
            return None
        left, right = (self.integer(_Value(ins.operand(i), (), frame)) for i in range(2))
        if left is None or right is None:
            return None
        return steps(ins.comparison_direction.lower(), left - right, 0, 0) != 0

    def update(self, loop: Instruction, path: Path) -> _Linear | None:
        """Return a part of what a loop carries after an iteration, as a linear form of what it carried before."""
        body = loop.callee(0)
        return self.linear(_Value(body.root, path, _Frame(body, carry=True)))

    def _home(self, loop: Instruction) -> Computation | None:
        """Return the computation of a loop: the one that calls its body."""
        return next((home for home, caller in self._callers[loop.callee(0).id] if caller is loop), None)

    def _fixed(self, loop: Instruction, path: Path) -> bool:
        """Say whether the iterations of a loop do not change a part of what it carries."""
        return self.update(loop, path) == _Linear(0, {path: 1})

    def _parameter(self, computation: Computation, number: int, path: Path) -> int | None:
        """Return the value that a part of a parameter has in every run of a computation, or None."""
        key = (computation.id, number, path)
        if key in self._parameters:
            return self._parameters[key]
        if computation is self._entry:
            return None
        values = {self._argument(computation, home, caller, number, path) for home, caller in self._callers[key[0]]}
        self._parameters[key] = values.pop() if len(values) == 1 else None
        return self._parameters[key]

    def _argument(
        self, callee: Computation, home: Computation, caller: Instruction, number: int, path: Path
    ) -> int | None:
        if caller.opcode == "while":
            return self.initial(caller, path) if self._fixed(caller, path) else None
        if caller.opcode == "conditional":
            # Operand 0 chooses the branch; each branch has one operand.
            branches = [i for i, branch in enumerate(caller.called) if branch is callee]
            number = 1 + branches[0]
            if len(branches) > 1:
                return None
        elif caller.opcode not in ("call", "fusion", "async-start"):
            return None
        if number >= len(caller.operands):
            return None
        return self.integer(_Value(caller.operands[number], path, _Frame(home)))

    def _step(self) -> bool:
        self._steps_left -= 1
        return self._steps_left > 0


class _LoopCount:
    """The number of iterations of one loop until its condition, or a part of it, is false."""

    def __init__(self, values: TripCounts, loop: Instruction) -> None:
        self._values = values
        self._loop = loop
        # The carried numbers on which the condition depends, with the values of their dtypes.
        self._counters: dict[Path, tuple[_Sequence, range]] = {}

    def until_false(self, condition: _Value, *, negated: bool = False, depth: int = 0) -> float | None:
        """Return how often a boolean of the condition is true before it is false.

        Infinity stands for always, None for unknown.
        """
        found = self._values.origin(condition)
        if found is None:
            return None
        ins, path, frame = found
        if depth > _DEEPEST:
            return None
        if ins.opcode == "parameter" and frame.carry and path:
            return self._carried_boolean(path, negated=negated, depth=depth)
        if path:
            return None
        if ins.opcode == "not":
            return self.until_false(_Value(ins.operand(0), (), frame), negated=not negated, depth=depth + 1)
        if ins.opcode == ("or" if negated else "and") and ins.shape.dtype == "bool":
            parts = [_Value(x, (), frame) for x in ins.operands]
            counts = [self.until_false(part, negated=negated, depth=depth + 1) for part in parts]
            if 0 in counts:
                return 0
            known = [count for count in counts if count is not None]
            return min(known) if known and len(known) == len(counts) else None
        if ins.opcode == "constant":
            return None if ins.integer is None else 0 if ins.integer == int(negated) else inf
        if ins.opcode != "compare" or ins.comparison_direction not in _NEGATED:
            return None
        direction = _NEGATED[ins.comparison_direction] if negated else ins.comparison_direction
        sides = [self._side(_Value(ins.operand(i), (), frame)) for i in range(2)]
        left, right = sides
        if left is None or right is None:
            return None
        count = steps(direction.lower(), left.start - right.start, left.step - right.step, 0)
        values = dtypes.integers(ins.operand(0).shape.dtype)
        if count is None or values is None:
            return None
        # A number that leaves the range of its dtype wraps around, and the loop may go on.
        bounded = [(left, values), (right, values), *self._counters.values()]
        return count if all(number.start + count * number.step in inside for number, inside in bounded) else None

    def _carried_boolean(self, path: Path, *, negated: bool, depth: int) -> float | None:
        """Return how often a boolean that the loop carries is true: before the first iteration, then as written."""
        first = self._values.initial_boolean(self._loop, path)
        if first is None:
            return None
        if first == negated:
            return 0
        body = self._loop.callee(0)
        written = _Value(body.root, path, _Frame(body, carry=True))
        rest = self.until_false(written, negated=negated, depth=depth + 1)
        return None if rest is None else 1 + rest

    def _side(self, value: _Value) -> _Sequence | None:
        """Return one side of a comparison as a sequence."""
        form = self._values.linear(value)
        values = dtypes.integers(value.instruction.shape.dtype)
        if form is None or values is None:
            return None
        start, step = form.constant, 0
        for path, factor in form.factors.items():
            carried = self._carried(path, ())
            if carried is None:
                return None
            start, step = start + factor * carried.start, step + factor * carried.step
        return _Sequence(wrapped(start, values), _shortest(step, values))

    def _carried(self, path: Path, around: tuple[Path, ...]) -> _Sequence | None:
        """Return a number that the loop carries, if each iteration adds the same to it. around: being derived."""
        if path in self._counters:
            return self._counters[path][0]
        start, form = self._values.initial(self._loop, path), self._values.update(self._loop, path)
        values = dtypes.integers(_part(self._loop.shape, path).dtype)
        if start is None or form is None or values is None or path in around:
            return None
        if path not in form.factors and len(form.factors) == 1:
            return self._follower(path, start, form, values, around)
        added = form.constant
        for other, factor in form.factors.items():
            if other == path:
                continue
            fixed = self._carried(other, (*around, path))
            if fixed is None or fixed.step:
                return None
            added += factor * fixed.start
        if form.factors.get(path, 0) == 1:
            number = _Sequence(start, _shortest(added, values))
        elif path not in form.factors and wrapped(added, values) == start:
            # Each iteration writes the number that is there already.
            number = _Sequence(start, 0)
        else:
            return None
        self._counters[path] = number, values
        return number

    def _follower(
        self, path: Path, start: int, form: _Linear, values: range, around: tuple[Path, ...]
    ) -> _Sequence | None:
        """Return a number that an iteration takes from another: one that does not change, or that was a step ahead.

        Example: `(i, j)` becomes `(j, j + 1)` from (0, 1), so that i is 0, 1, 2, as if it were increased itself.
        """
        ((other, factor),) = form.factors.items()
        ahead = self._carried(other, (*around, path))
        if ahead is None:
            return None
        # The value in iteration k + 1 is `factor * ahead_k + constant`.
        second, step = factor * ahead.start + form.constant, factor * ahead.step
        if wrapped(second - step, values) != start:
            return None
        number = _Sequence(start, _shortest(step, values))
        self._counters[path] = number, values
        return number


def _reinterprets(ins: Instruction) -> bool:
    """Say whether a bitcast changes the dtype."""
    return ins.opcode == "bitcast" and ins.shape.dtype != ins.operand(0).shape.dtype


def _part(shape: Shape, path: Path) -> Shape:
    for index in path:
        if index >= len(shape.parts):
            break
        shape = shape.parts[index]
    return shape


def _keeps(form: _Linear, source: range | None, target: range) -> bool:
    """Say whether a cast keeps a number: a constant, or a carried number whose every value the target has."""
    if source is None:
        return False
    if not form.factors:
        return form.constant in target
    bare = form.constant == 0 and list(form.factors.values()) == [1]
    return bare and source[0] in target and source[-1] in target


def _combined(opcode: str, parts: list[_Linear]) -> _Linear | None:
    if opcode == "convert":
        return parts[0]
    if opcode == "negate":
        return parts[0].scaled(-1)
    if len(parts) != 2:
        return None
    left, right = parts
    if opcode == "add":
        return left.plus(right)
    if opcode == "subtract":
        return left.plus(right, -1)
    if opcode in ("maximum", "minimum"):
        chosen = max if opcode == "maximum" else min
        return None if left.factors or right.factors else _Linear(chosen(left.constant, right.constant), {})
    if not left.factors:
        return right.scaled(left.constant)
    return left.scaled(right.constant) if not right.factors else None


def _shortest(step: int, values: range) -> int:
    """Return the step of the smallest size that is equal modulo the number of values: -1 for u32 4294967295."""
    size = values.stop - values.start
    return wrapped(step, range(-(size // 2), size - size // 2))
