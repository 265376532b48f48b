"""Witness: the few equations of a program in which the compiler, alone with them, leaves out the same one.

The last resort where no rule of ours says why an equation is gone: take it and its neighbours out of the program,
lower and compile them by themselves, and look. If the equation is gone there too, those few equations are the reason,
and anyone can repeat the experiment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from costax import _jax
from costax.compare.ahead_of_time import TIMEOUT, Machine
from costax.compare.compile import compile_stage, lower
from costax.core.address import Address
from costax.errors import CostaxError
from costax.hlo.cost_model import cost_model_for
from costax.hlo.read import read_bytes
from costax.hlo.replay import replay_module
from costax.program.call_sites import CallSite, invariant_inputs
from costax.program.tree import Node

# How many equations are taken out at most, after each step outwards.
_SIZES: Final = (6, 16, 40)
# How many experiments one comparison may make: each compiles a small program, some hundredths of a second on the CPU.
_MOST: Final = 60
# Elements of a constant that the compiler sees in an experiment; larger ones it does not look into either.
_LARGEST: Final = 1 << 16


class _Constant(NamedTuple):
    """An array that a jaxpr holds; the compiler sees its value, as that of a literal."""

    val: Any


class _Step(NamedTuple):
    """An equation at a call site: what it takes (the number of a value, or a literal), and the values that it makes."""

    eqn: Any
    address: Address
    takes: tuple[Any, ...]
    makes: tuple[int, ...]


@dataclass
class Witnesses:
    """The equations of a program as one flow of values, calls looked through, and the experiments made with it.

    tree, jaxpr, marks: of the program. machine: what it is compiled for; None for this machine's CPU.
    """

    tree: Node
    jaxpr: Any
    marks: Mapping[int, int]
    machine: Machine | None = None
    _seen: dict[tuple[Address, str], str] = field(default_factory=dict[tuple[Address, str], str])
    _flow: _Flow | None = None

    def __call__(self, place: CallSite, stage: str, left: Container[Address]) -> str:
        """Return the evidence that a stage ("lowered", "compiled") leaves out the equation of a place; "" for none.

        left: the equations of which the stage of the whole program has something left.
        """
        key = place.address, stage
        if key not in self._seen:
            # A compiler ahead of time takes seconds, in a process of its own, for each program.
            affordable = len(self._seen) < _MOST and (self.machine is None or stage == "lowered")
            self._seen[key] = self._found(place, stage, left) if affordable and place.devices == 1 else ""
        return self._seen[key]

    def _found(self, place: CallSite, stage: str, left: Container[Address]) -> str:
        if self._flow is None:
            self._flow = _Flow(self.tree, self.jaxpr, self.marks)
        tried = 0
        for most in _SIZES:
            window = self._flow.window(place.address, most)
            if len(window) <= tried:
                break
            tried = len(window)
            peers = [step for step in window if _alike(step.eqn, place.node.equation)]
            gone = {step.address for step in peers} - {
                step.address for step in self._left(self._flow, window, peers, stage)
            }
            others = ", ".join(step.eqn.primitive.name for step in window if step.address != place.address)
            if place.address in gone:
                return f"XLA leaves it out of {tried} equations alone, too: it" + (f" and {others}" if others else "")
            # Of two that become equal either may be the one that stays.
            if any(address in left for address in gone):
                return f"alone with {others}, XLA keeps it and leaves out the other {place.primitive}, which is there"
        return ""

    def _left(self, flow: _Flow, window: Sequence[_Step], peers: Sequence[_Step], stage: str) -> Sequence[_Step]:
        """Return of which equations an instruction with work is left when the window is all there is."""
        try:
            traced = flow.traced(window, {id(step): f"~{number}~" for number, step in enumerate(peers)})
            made = lower(traced, traced.jaxpr, "witness", self.machine)
            if stage == "compiled":
                made = compile_stage(made, "witness", self.machine, TIMEOUT)
        except (CostaxError, TypeError, ValueError, NotImplementedError):
            return peers  # These equations make no program of their own, so they tell nothing.
        model = cost_model_for(tpu=self.machine is not None and self.machine.platform == "tpu")
        working = (
            row for row in replay_module(read_bytes(made.hlo), model).instructions if row.flops or row.transcendentals
        )
        names = " ".join(row.instruction.op_name for row in working)
        return [step for number, step in enumerate(peers) if f"~{number}~" in names]


def _alike(a: Any, b: Any) -> bool:
    return a.primitive is b.primitive and [str(x.aval) for x in a.outvars] == [str(x.aval) for x in b.outvars]


class _Flow:
    def __init__(self, tree: Node, jaxpr: Any, marks: Mapping[int, int]) -> None:
        self._marks = marks
        self._avals: list[Any] = []
        self._steps: list[_Step] = []
        self._at: dict[Address, int] = {}
        self._leaves: set[int] = set()
        self._makers: dict[int, int] = {}
        self._users: dict[int, list[int]] = defaultdict(list)
        self._leave(self._jaxpr(jaxpr, tree.children, (), {}))
        for number, step in enumerate(self._steps):
            self._makers.update(dict.fromkeys(step.makes, number))
            for value in step.takes:
                if isinstance(value, int):
                    self._users[value].append(number)

    def window(self, address: Address, most: int) -> Sequence[_Step]:
        """Return an equation and its nearest neighbours, in program order."""
        start = self._at.get(address)
        if start is None:
            return ()
        found, level = {start}, [start]
        while level and len(found) < most:
            near = (x for number in level for x in self._near(number))
            level = [x for x in dict.fromkeys(near) if x not in found and self._is_plain(x)][: most - len(found)]
            found.update(level)
        return [self._steps[number] for number in sorted(found)]

    def traced(self, window: Sequence[_Step], scopes: Mapping[int, str]) -> Any:
        """Return the traced function of some equations: from what they take from outside to what they give.

        scopes: by the id of a step, the scope that it gets.
        """
        made = {value for step in window for value in step.makes}
        taken = {value for step in window for value in step.takes if isinstance(value, int)}
        inside = {id(step) for step in window}
        free = sorted(taken - made)
        needed = [
            value
            for value in sorted(made)
            if value in self._leaves or any(id(self._steps[user]) not in inside for user in self._users[value])
        ]

        def program(*given: Any) -> list[Any]:
            values = dict(zip(free, given, strict=True))
            for step in window:
                inputs = [values[x] if isinstance(x, int) else x.val for x in step.takes]
                results = _jax.bind_in_scope(step.eqn, inputs, scopes.get(id(step), ""))
                values.update(zip(step.makes, results, strict=True))
            return [values[value] for value in needed]

        return _jax.traced(program, [self._avals[value] for value in free])

    def _near(self, number: int) -> Iterator[int]:
        step = self._steps[number]
        for value in step.takes:
            if isinstance(value, int):
                yield from (self._makers[value],) if value in self._makers else ()
        for value in (*step.makes, *(x for x in step.takes if isinstance(x, int))):
            yield from self._users[value]

    def _is_plain(self, number: int) -> bool:
        eqn = self._steps[number].eqn
        inner = any(_jax.is_jaxpr(value) for value in eqn.params.values())
        return not inner and not eqn.effects and eqn.primitive.name != "optimization_barrier"

    def _jaxpr(self, jaxpr: Any, nodes: Sequence[Node], address: Address, given: Mapping[int, Any]) -> list[Any]:
        """Add the equations of a jaxpr, some of whose inputs are given by position; return what its outputs are."""
        inner = _jax.opened(jaxpr)
        values: dict[Any, Any] = {}
        for i, var in enumerate(inner.invars):
            values[var] = given[i] if i in given else self._new(var)
        for var, held in zip_longest(inner.constvars, _jax.constants(jaxpr)):
            values[var] = _Constant(held) if _jax.is_concrete(held, _LARGEST) else self._new(var)
        for node in nodes:
            eqn, here = node.equation, (*address, self._marks[id(node.equation)])
            takes = tuple(x if _jax.is_literal(x) else values[x] for x in eqn.invars)
            if self._is_call(node):
                given = {i: takes[source] for i, source in enumerate(node.bodies[0].inputs)}
                results = self._jaxpr(node.bodies[0].jaxpr, node.children[0].children, here, given)
                values.update(zip(eqn.outvars, results, strict=False))
                continue
            makes = tuple(self._new(var) for var in eqn.outvars)
            values.update(zip(eqn.outvars, makes, strict=True))
            self._at[here] = len(self._steps)
            self._steps.append(_Step(eqn, here, takes, makes))
            for position, (child, body) in enumerate(zip(node.children, node.bodies, strict=False)):
                if not child.fused and child.children and id(child.children[0].equation) in self._marks:
                    kept = {i: takes[source] for i, source in invariant_inputs(node, position).items()}
                    self._leave(self._jaxpr(body.jaxpr, child.children, here, kept))
        return [x if _jax.is_literal(x) else values[x] for x in inner.outvars]

    def _leave(self, results: Sequence[Any]) -> None:
        """Note values that leave the program, or go round a loop: what makes them must give them."""
        self._leaves.update(x for x in results if isinstance(x, int))

    def _is_call(self, node: Node) -> bool:
        """Say whether values go in and out as they are; a differentiated checkpoint has a barrier in between."""
        if len(node.children) != 1 or len(node.bodies) != 1 or node.equation.params.get("differentiated"):
            return False
        child, body = node.children[0], node.bodies[0]
        known = not child.children or id(child.children[0].equation) in self._marks
        whole = len(body.inputs) == len(_jax.opened(body.jaxpr).invars)
        return known and whole and not (child.loop or child.per_device or child.fused)

    def _new(self, var: Any) -> int:
        self._avals.append(var.aval)
        return len(self._avals) - 1
