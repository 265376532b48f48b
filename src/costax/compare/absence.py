"""Absence: why nothing is left of an equation at a stage, with the evidence for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, Final

from costax.compare.causes import (
    BRANCH,
    CONTROL,
    DEFECT,
    FOLDED,
    LIBRARY,
    MERGED,
    REMAT,
    REWRITTEN,
    SIMPLIFIED,
    UNEXPLAINED,
    Pair,
)
from costax.compare.changes import total
from costax.compare.stage_costs import AttributedCost, opcodes
from costax.core.address import Address
from costax.core.cost import Count
from costax.hlo.records import Instruction
from costax.program.call_sites import CallSite
from costax.program.tree import RECOMPUTE
from costax.rules.traits import ContractionKind

Left = Mapping[Address, Sequence[AttributedCost]]
Witness = Callable[[CallSite, str, Container[Address]], str]
"""Evidence by experiment that a stage leaves out the equation of a place; the last are the equations it has left."""

_ADDITIONS: Final = frozenset({"add", "add_any"})
# Operands that leave the other operand, or nothing of it, whatever it is: x + 0, x * 1, x * 0, max(x, -inf).
_NEUTRAL: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("add", "sub", "add_any", "or", "xor"), ("0", "0.0", "-0.0", "False")),
    **dict.fromkeys(("mul", "div", "pow", "and", "dot_general"), ("1", "1.0", "0", "0.0", "True", "False")),
    **dict.fromkeys(("max", "min"), ("inf", "-inf")),
    "ne": ("False",),
    "eq": ("True",),
}
_POWERS: Final = frozenset({"integer_pow", "square", "mul"})
# Done twice they do nothing more, or undo themselves.
_PROJECTIONS: Final = frozenset({"abs", "floor", "ceil", "round", "neg", "not"})
# What they make of equal operands is known: x - x, x != x, max(x, x), a choice between x and x.
_IDEMPOTENT: Final = frozenset(
    {"sub", "div", "eq", "ne", "lt", "le", "gt", "ge", "max", "min", "and", "or", "xor", "select_n"}
)


class Absence:
    """The equations of a program by what they compute and use, to find what stands in for one that is gone.

    lowered: the charges of each equation before optimisation. hidden: equations that XLA does not charge, and why.
    line: the user's file and line of a place. witness: evidence by experiment.
    """

    def __init__(
        self,
        call_sites: Mapping[Address, CallSite],
        lowered: Left,
        hidden: Mapping[Address, str],
        line: Callable[[CallSite], str],
        witness: Witness,
    ) -> None:
        """Index the places."""
        self._at, self._lowered, self._hidden = call_sites, lowered, hidden
        self._line, self._witness = line, witness
        self._equals: dict[int, list[CallSite]] = defaultdict(list)
        self._alike: dict[Any, list[CallSite]] = defaultdict(list)
        self._users: dict[Any, list[CallSite]] = defaultdict(list)
        for place in call_sites.values():
            self._equals[place.value].append(place)
            self._alike[place.value_up_to_shape].append(place)
            for value in place.operands:
                self._users[value].append(place)

    def why(self, place: CallSite, stage: str, difference: Pair, left: Left) -> tuple[str, str]:
        """Return cause and evidence of why a stage has nothing of an equation.

        difference: what that changes. left: the charges of each equation at the stage.
        """
        twins = (
            *self._equals[place.value],
            *self._alike[place.value_up_to_shape],
            *self._powers(place),
            *self._past(place),
        )
        twin = next((other for other in twins if other is not place and left.get(other.address)), None)
        if difference.work > 0:
            cause, evidence = LIBRARY, "its call, which is charged -1, is gone"
        elif twin is not None:
            cause = REMAT if place.direction == RECOMPUTE else MERGED
            where = "/".join(twin.scope) or "the top"
            line = self._line(twin).rpartition("/")[2]
            evidence = f"an equal equation in {where} ({line}) is there: {opcodes(left[twin.address])}"
        elif stage == "compiled" and place.address in self._hidden:
            cause, evidence = (BRANCH if place.branches else DEFECT), self._hidden[place.address]
        elif any(child.loop for child in place.node.children):
            cause, evidence = CONTROL, f"no loop is left of the {opcodes(self._lowered.get(place.address, []))}"
        elif place.is_constant or place.scalar:
            cause, evidence = FOLDED, f"it is {place.scalar}" if place.scalar else "no input of the program reaches it"
        else:
            cause, evidence = self._simplified(place, stage, left)
        return cause, evidence

    def _near(self, place: CallSite) -> list[CallSite]:
        return [*self._users[place.value], *(other for value in place.operands for other in self._equals[value])]

    def _around(self, place: CallSite) -> CallSite | None:
        """Return the innermost loop, branch, kernel or mesh around a place: its results go round, or out of it."""
        for n in range(len(place.address) - 1, 0, -1):
            found = self._at.get(place.address[:n])
            inner = found.node.children if found is not None else ()
            if any(x.loop or x.per_device or x.label.startswith("branch_") for x in inner):
                return found
        return None

    def _scatters_into(self, place: CallSite, left: Left) -> Instruction | None:
        """Return the scatter of one operand of an addition that started from zeros, and no longer does."""
        if place.primitive not in _ADDITIONS:
            return None
        operands = [x for value in place.operands for x in self._equals[value]]
        # What a branch gives is made by what lies in it.
        operands += [x for site in operands if site.node.is_branch for x in self._inside(site)]
        found = [x.address for x in operands if x.primitive == "scatter-add"]
        started = [at for at in found if all(_starts_from_zeros(charge) for charge in self._lowered.get(at, ()))]
        scatters = (c for at in started for c in left.get(at, ()) if c.opcode == "scatter")
        return next((c.instruction for c in scatters if not _starts_from_zeros(c)), None)

    def _sharing(self, place: CallSite, left: Left) -> str:
        """Say which instruction does an equation together with another one that shares an operand with it."""
        for other in (x for value in place.operands for x in self._users[value]):
            before, after = self._lowered.get(other.address, []), left.get(other.address, [])
            if other is not place and other.primitive == place.primitive and _really(after) > total(before).work > 0:
                return f"one {opcodes(after)} does both this and the {other.primitive} that shares an operand"
        return ""

    def _inside(self, outer: CallSite) -> Sequence[CallSite]:
        n = len(outer.address)
        return [x for at, x in self._at.items() if len(at) > n and at[:n] == outer.address]

    def _passed_by(self, place: CallSite, left: Left) -> str:
        """Say which instruction takes the operand of an equation where the program gives it the result."""
        makers = [x for value in place.operands for x in self._equals[value] if _gives_one(x)]
        made = [c.instruction for x in makers for c in left.get(x.address, ())]
        for user in self._users[place.value]:
            # What takes the operand besides the result says nothing.
            if set(user.operands).isdisjoint(place.operands):
                working = {id(c.instruction) for c in left.get(user.address, ()) if c.work}
                for operand in made:
                    taking = next((x for x in _takers(operand, made) if id(x) in working or _decides(x, user)), None)
                    if taking is not None:
                        return f"{taking.name} takes {operand.name}, its operand, in place of its result"
        return ""

    def _past(self, place: CallSite) -> Sequence[CallSite]:
        """Return the same operation before the movement of its operand: f(concatenate(x)) is concatenate(f(x))."""
        moving = [x for value in place.operands for x in self._equals[value] if not x.cost.ops]
        makers = [other for x in moving for value in x.operands for other in self._users[value]]
        return [other for other in makers if other.primitive == place.primitive]

    def _powers(self, place: CallSite) -> Sequence[CallSite]:
        """Return the other powers of an operand: x * x is a part of x**3."""
        if place.primitive not in _POWERS:
            return ()
        return [other for value in set(place.operands) for other in self._users[value] if other.primitive in _POWERS]

    def _simplified(self, place: CallSite, stage: str, left: Left) -> tuple[str, str]:
        """Say which rule of algebra, or which other equation, made an equation unnecessary."""
        neutral = next((x for x in place.scalar_operands if x in _NEUTRAL.get(place.primitive, ())), None)
        if neutral is not None:
            return SIMPLIFIED, f"{place.primitive} with {neutral}"
        if place.has_constant_operand:
            return SIMPLIFIED, "no input of the program reaches one of its operands"
        if place.has_equal_operands and place.primitive in _IDEMPOTENT:
            return SIMPLIFIED, f"{place.primitive} of equal operands"
        inner = next((x for value in place.operands for x in self._equals[value]), None)
        if place.primitive in _PROJECTIONS and inner is not None and inner.primitive == place.primitive:
            return SIMPLIFIED, f"{place.primitive} of {inner.primitive}"
        started = self._scatters_into(place, left)
        if started is not None:
            return SIMPLIFIED, f"{started.name} adds into its other operand instead of into zeros"
        shared = self._sharing(place, left)
        if shared and place.node.traits.contraction is ContractionKind.PRODUCT:
            return MERGED, shared
        users = self._users[place.value]
        if users and not any(left.get(user.address) for user in users):
            return SIMPLIFIED, f"nothing that uses its result is left ({len(users)} equations)"
        around = None if users else self._around(place)
        if around is not None:
            return SIMPLIFIED, f"the {around.primitive} around it no longer carries its result"
        near = self._near(place)
        further = [other for at in near for other in self._near(at)]
        constant = next(
            (x for x in (*near, *further) if x.scalar_operands and x is not place and left.get(x.address)), None
        )
        if place.scalar_operands and constant is not None:
            return SIMPLIFIED, f"its constant is combined with that of {constant.primitive} beside it"
        if shared:
            return MERGED, shared
        for other in near:
            before, after = self._lowered.get(other.address, []), left.get(other.address, [])
            if after and opcodes(before) != opcodes(after):
                return REWRITTEN, f"{other.primitive} beside it took it over: {opcodes(before)} became {opcodes(after)}"
        taken = self._passed_by(place, left)
        if taken:
            return SIMPLIFIED, taken
        shown = self._witness(place, stage, {address for address, charges in left.items() if total(charges).work})
        if shown:
            return SIMPLIFIED, shown
        if users and not any(c.evidence == "marked" for user in users for c in left.get(user.address, ())):
            return SIMPLIFIED, f"no instruction bears the name of what uses its result ({len(users)} equations)"
        return UNEXPLAINED, "no instruction comes from it, and no rule of ours says why"


def _really(charges: Sequence[AttributedCost]) -> Count:
    """Return what some charges do, calls of libraries included, which are charged -1."""
    return sum(charge.actual.flops + charge.actual.transcendentals for charge in charges)


def _starts_from_zeros(scatter: AttributedCost) -> bool:
    return scatter.opcode != "scatter" or scatter.instruction.operand(0).opcode in ("broadcast", "constant")


def _gives_one(place: CallSite) -> bool:
    """Say whether an equation has one result, and runs nothing that has others of its own."""
    return len(place.node.equation.outvars) == 1 and not place.node.children


def _takers(ins: Instruction, made: Sequence[Instruction]) -> Iterator[Instruction]:
    """Yield what takes the result of an instruction, inside fusions too; of a fusion, those results that are `made`."""
    root = ins.callee(0).root if ins.opcode == "fusion" else ins
    if root.opcode == "tuple":
        results = [user for user in ins.users if user.opcode == "get-tuple-element"]
        inside = {id(x) for x in made}
        yield from (x for user in results if id(root.operand(user.tuple_index)) in inside for x in _takers(user, made))
        return
    for user in ins.users if root is ins or any(root is x for x in made) else ():
        if user.opcode == "fusion":
            given = zip(user.callee(0).parameters, user.operands, strict=False)
            yield from (x for parameter, operand in given if operand is ins for x in parameter.users)
        else:
            yield user


def _decides(ins: Instruction, place: CallSite) -> bool:
    """Say whether an instruction is the conditional of an equation, which is charged nothing of its own."""
    return ins.opcode == "conditional" and f"~{place.address[-1]}~" in ins.op_name
