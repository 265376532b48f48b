"""Loops in kernels: how often a loop iterates in every run, and the values of its carry in every iteration.

A causal attention kernel has `fori_loop(0, program_id(0) + 1, ...)`: in run i it iterates i + 1 times, and its counter
is 0 ... i. If the condition compares a counter with a bound, the counter has a formula; any other loop whose condition
depends on known values only is stepped through, in all runs at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy

from costax.core.equation import Body, Equation
from costax.rules.higher_order.trip_count import WhileLoop, added
from costax.rules.known_values import CallFrame
from costax.rules.runs import Array, Runs, fits_memory, is_array

# Untyped, because arrays have any dtype and any number of dimensions here.
np: Any = numpy

MOST_STEPS: Final = 1 << 12
"""A loop is stepped through for at most so many iterations."""


@dataclass(frozen=True, slots=True, eq=False)
class LoopRuns:
    """A loop in every run of its equation.

    times: the number of iterations. runs: those of its body. carry: returns a carry at the start of every iteration;
    final: returns it after the last one.
    """

    times: Array
    runs: Runs
    carry: Callable[[int], Any]
    final: Callable[[int], Any]


def while_runs(eqn: Equation) -> LoopRuns | None:
    """Return the runs of a `while` equation, or None where the program does not determine them."""
    if eqn.runs is None:
        return None
    loop = WhileLoop(eqn)
    times = _by_counter(eqn, loop)
    steps = _Steps(eqn, loop.condition_consts + loop.body_consts, len(eqn.outputs), _while_body(eqn, loop), times)
    if times is None:
        times = steps.taken()
    return None if times is None else _loop_runs(eqn, times, loop.step, steps)


def scan_runs(eqn: Equation) -> LoopRuns | None:
    """Return the runs of a `scan` equation of known length; `carry` also returns its slices, behind the carry."""
    length, consts, carried = eqn.params["length"], eqn.params["num_consts"], eqn.params["num_carry"]
    if eqn.runs is None or not isinstance(length, int):
        return None
    frame = CallFrame(eqn.params["jaxpr"])
    steps = _Steps(eqn, consts, carried, _scan_body(eqn), np.asarray(length))
    runs = _loop_runs(eqn, np.asarray(length), lambda carry: _scan_step(frame, consts, carry), steps)
    if runs is None:
        return None

    def carry(position: int) -> Any:
        return runs.carry(position) if position < carried else _slices(eqn, consts + position, length)

    return LoopRuns(runs.times, runs.runs, carry, lambda result: runs.final(result) if result < carried else None)


def input_values(loop: LoopRuns, eqn: Equation, inputs: Sequence[int | None], fixed: int) -> Callable[[int], Any]:
    """Return a function that returns an input of the body in every run: a constant of the loop, or a carry."""

    def value(position: int) -> Any:
        source = inputs[position]
        return eqn.values[source] if position < fixed and source is not None else loop.carry(position - fixed)

    return value


def _loop_runs(eqn: Equation, times: Array, step_of: Callable[[int], Any], steps: _Steps) -> LoopRuns | None:
    runs = cast("Runs", eqn.runs).repeated(times)
    if runs is None:
        return None

    def counted(carry: int, iteration: Array) -> Any:
        start, step = steps.initial(carry), step_of(carry)
        if is_array(start) and start.dtype.kind in "iu" and step is not None:
            rank = steps.rank(carry)
            offset = (iteration * step).reshape((*iteration.shape, *(1,) * rank))
            return (start + offset).astype(start.dtype) if fits_memory(start.shape, offset.shape) else None
        return start if step == 0 else None

    def carry(number: int) -> Any:
        value = counted(number, runs.iteration)
        return steps.history(number) if value is None else value

    def final(number: int) -> Any:
        value = counted(number, np.asarray(times).astype(np.int64))
        return steps.final(number) if value is None else value

    return LoopRuns(np.asarray(times), runs, carry, final)


def _by_counter(eqn: Equation, loop: WhileLoop) -> Array:
    """Return how often a loop iterates in every run if its condition compares a counter with a bound, else None."""
    for carry, relation, bound in loop.comparisons():
        start, step = eqn.values[loop.condition_consts + loop.body_consts + carry], loop.step(carry)
        end = _bound(eqn, loop, bound)
        if is_array(start) and end is not None and isinstance(step, int) and step != 0:
            upwards = relation in ("lt", "le")
            if relation == "ne" or upwards != (step > 0) or not fits_memory(start.shape, end.shape):
                continue
            distance = (end.astype(np.int64) - start.astype(np.int64)) * (1 if upwards else -1)
            distance = distance + (relation in ("le", "ge"))
            return np.maximum(-(-distance // abs(step)), 0)
    return None


def _bound(eqn: Equation, loop: WhileLoop, atom: Any) -> Array:
    """Return the value of a bound of the condition in every run, if it is the same in every iteration, else None."""

    def unchanged(position: int) -> Any:
        carry = position - loop.condition_consts
        if carry < 0:
            return eqn.values[position]
        return eqn.values[loop.condition_consts + loop.body_consts + carry] if loop.step(carry) == 0 else None

    condition = _frame(eqn, eqn.params["cond_jaxpr"], unchanged)
    value = condition.values(atom)
    return value if is_array(value) else None


_Step = Callable[[Sequence[Any], int], "tuple[Array, Callable[[int], Any]]"]


def _while_body(eqn: Equation, loop: WhileLoop) -> _Step:
    consts = loop.condition_consts

    def step(carries: Sequence[Any], _: int) -> tuple[Array, Callable[[int], Any]]:
        def condition_input(position: int) -> Any:
            return eqn.values[position] if position < consts else carries[position - consts]

        def body_input(position: int) -> Any:
            fixed = position < loop.body_consts
            return eqn.values[consts + position] if fixed else carries[position - loop.body_consts]

        condition = _frame(eqn, eqn.params["cond_jaxpr"], condition_input)
        body = _frame(eqn, eqn.params["body_jaxpr"], body_input)
        goes_on = condition.values(condition.jaxpr.outvars[0])
        return goes_on, lambda carry: body.values(body.jaxpr.outvars[carry])

    return step


def _scan_body(eqn: Equation) -> _Step:
    length, consts, carried = eqn.params["length"], eqn.params["num_consts"], eqn.params["num_carry"]

    def step(carries: Sequence[Any], iteration: int) -> tuple[Array, Callable[[int], Any]]:
        def body_input(position: int) -> Any:
            if position < consts:
                return eqn.values[position]
            if position < consts + carried:
                return carries[position - consts]
            slices = _slices(eqn, position, length)
            return None if slices is None else slices[iteration]

        body = _frame(eqn, eqn.params["jaxpr"], body_input)
        return np.asarray(iteration < length), lambda carry: body.values(body.jaxpr.outvars[carry])

    return step


def _frame(eqn: Equation, jaxpr: Any, values: Callable[[int], Any]) -> CallFrame:
    return CallFrame(jaxpr, body=Body(jaxpr, loop=True, runs=eqn.runs, values=values))


def _scan_step(frame: CallFrame, consts: int, carry: int) -> int | None:
    return added(frame, frame.jaxpr.outvars[carry], frame.jaxpr.invars[consts + carry], frame.known)


def _slices(eqn: Equation, position: int, length: int) -> Any:
    """Return the slices of a scanned array, one for each iteration; None if the array is not known."""
    value = eqn.values[position]
    rank = len(eqn.inputs[position].shape)
    if not is_array(value):
        return None
    outer = len(cast("Runs", eqn.runs).shape)
    # (*runs, length, ...) -> (length, *runs, ...)
    value = value.reshape((*(1,) * (outer + rank - value.ndim), *value.shape))
    whole = np.broadcast_to(value, (*value.shape[:outer], length, *value.shape[outer + 1 :]))
    slices = np.moveaxis(whole, outer, 0)
    return slices[::-1] if eqn.params["reverse"] else slices


class _Steps:
    """A loop, stepped through in all runs at once, the first time that it is asked for a carry without a formula."""

    def __init__(self, eqn: Equation, first: int, carried: int, step: _Step, times: Array) -> None:
        """Take the equation, the position of its first carry, how many there are, one step, and the trip counts."""
        self._eqn, self._first, self._carried, self._step, self._times = eqn, first, carried, step, times
        self._history: list[list[Any]] | None = None
        self._final: list[Any] = []
        self._taken: Array = None

    def initial(self, carry: int) -> Any:
        return self._eqn.values[self._first + carry]

    def rank(self, carry: int) -> int:
        return len(self._eqn.inputs[self._first + carry].shape)

    def taken(self) -> Array:
        self._run()
        return self._taken

    def history(self, carry: int) -> Any:
        self._run()
        values = [step[carry] for step in self._history or ()]
        if not values or any(not is_array(value) for value in values):
            return None
        outer = len(cast("Runs", self._eqn.runs).shape) + self.rank(carry)
        whole = [value.reshape((*(1,) * (outer - value.ndim), *value.shape)) for value in values]
        shape = np.broadcast_shapes(*(value.shape for value in whole))
        return np.stack([np.broadcast_to(v, shape) for v in whole]) if fits_memory((len(whole), *shape)) else None

    def final(self, carry: int) -> Any:
        self._run()
        return self._final[carry] if self._final else None

    def _run(self) -> None:
        if self._history is not None:
            return
        self._history = []
        runs = cast("Runs", self._eqn.runs)
        carries: list[Any] = [self.initial(n) for n in range(self._carried)]
        most = MOST_STEPS if self._times is None else int(np.max(np.where(runs.mask, self._times, 0), initial=0))
        if most > MOST_STEPS:
            return
        active, taken, history = runs.mask, np.zeros((), np.int64), list[list[Any]]()
        for iteration in range(most + 1):
            goes_on, result = self._step(carries, iteration)
            if self._times is not None:
                goes_on = iteration < self._times
            if not is_array(goes_on):
                return
            active = active & goes_on
            if not np.any(active):
                self._history, self._final, self._taken = history, carries, taken
                return
            history.append(carries)
            taken = taken + active
            carries = [
                None if old is None else self._merged(active, result(number), old, self.rank(number))
                for number, old in enumerate(carries)
            ]

    @staticmethod
    def _merged(active: Array, new: Any, old: Any, rank: int) -> Any:
        if not is_array(new) or not is_array(old):
            return new if new is old else None
        mask = active.reshape((*active.shape, *(1,) * rank))
        return np.where(mask, new, old) if fits_memory(mask.shape, new.shape, old.shape) else None
