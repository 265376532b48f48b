"""Integrity: signs that a module of the chain is not what the compiler wrote.

The steps of a chain add up whatever its modules are. But a pass makes new instructions and removes old ones, and some
things no pass does:

* An instruction that stays gets no other opcode, number of elements or computation; with the same operands it costs
  the same. XLA keeps a name only for an instruction with the same opcode.
* What is gone does not come back under its name.
* A pass does not undo what the pass before did: work that is gone in one module is not back in the next.
* A copy of an instruction that nothing reads does not stand in one module only.

Where one of these fails, the module before or after is falsified, so the changes of both steps are in doubt.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple, TypeVar

from costax.compare.lineage import Changes, tail
from costax.compare.place import Place

_Key = TypeVar("_Key", bound=Hashable)
_Origins = Mapping[str, str]
_Names = Sequence[str]

_Work = tuple[str, str, int, int]
"""The equation of an instruction, its opcode, and its FLOPs and transcendentals."""

_Content = tuple[int, str, tuple[str, ...], str, bytes]
"""Computation, opcode, operands, shape and metadata of an instruction."""

# The calls before the last mark in a name of jax, which inlining adds.
_CALLS: Final = re.compile(r".*(?=~\d+~)")

REVIVED: Final = "it was gone in the module before and has the same name again"
MUTATED: Final = "a pass does not change the operation or the extents of an instruction that stays"
UNDONE: Final = "the work was gone in the module before, and is back"
REPLACED: Final = "the equation had no work in the module before, and has other work now"
TWIN: Final = "an equal instruction stood beside it in this module only"


class Doubt(NamedTuple):
    """A change that no pass makes: the step, the instruction, and what is wrong."""

    step: int
    name: str
    why: str


class Integrity:
    """Looks for changes that no pass makes, step by step."""

    def __init__(self) -> None:
        """Begin before the first step."""
        self.doubts: list[Doubt] = []
        self._gone: dict[str, int] = {}
        self._balance = _Balance((), (), {}, {})
        self._twins: set[str] = set()

    def step(self, number: int, changes: Changes) -> None:
        """Examine the next step."""
        removed = {name: place for name, place in changes.removed.items() if place.computes}
        new = [place for place in changes.new if place.computes]
        for place in new:
            if place.ins.name in self._gone:
                self._doubt(REVIVED, {self._gone[place.ins.name]: [place.ins.name], number: [place.ins.name]})
        for then, now in changes.kept:
            if (then.computes or now.computes) and _is_mutated(then, now):
                # It may be the module after this one that changes it back.
                self._doubt(MUTATED, {step: [now.ins.name] for step in (number - 1, number, number + 1)})
        # What stays with another cost counts as gone and new.
        others = [(then, now) for then, now in changes.kept if then.cost[:2] != now.cost[:2]]
        old = [*removed.values(), *(then for then, _ in others)]
        balance = _Balance(old, [*new, *(now for _, now in others)], changes.before, changes.after)
        self._undone(number, balance, changes)
        for name in self._twins & removed.keys():
            self._doubt(TWIN, {number - 1: [name], number: [name]})
        self._gone.update(dict.fromkeys(removed, number))
        self._balance, self._twins = balance, _twins(new, changes)

    def _undone(self, number: int, balance: _Balance, changes: Changes) -> None:
        # Work of which some stood in the module between was copied, as an inlined or unrolled function is. A single
        # operation tells nothing: an unrolled loop has one for each counter.
        back = {work for work in self._balance.lost.keys() & balance.won.keys() if max(work[2:]) > 1}
        refilled = self._balance.emptied.keys() & balance.filled.keys()
        stood = set(_standing(changes)) if back or refilled else set[_Work]()
        for work in back - stood:
            self._doubt(UNDONE, {number - 1: self._balance.lost[work], number: balance.won[work]})
        for equation in refilled - {work[0] for work in stood}:
            self._doubt(REPLACED, {number - 1: self._balance.emptied[equation], number: balance.filled[equation]})

    def _doubt(self, why: str, names: Mapping[int, _Names]) -> None:
        """Add a doubt for each instruction. names: of the instructions, by step."""
        self.doubts += [Doubt(step, name, why) for step, own in names.items() for name in own]


def _is_mutated(then: Place, now: Place) -> bool:
    a, b = then.ins, now.ins
    if a.opcode != b.opcode or a.shape.elements != b.shape.elements:
        return True
    same_operands = [x.name for x in a.operands] == [x.name for x in b.operands]
    same_shapes = [x.shape for x in a.operands] == [x.shape for x in b.operands]
    if then.computation != now.computation and not same_operands:
        return True
    same_equation = not then.name or not now.name or _without_calls(then.name) == _without_calls(now.name)
    return then.cost[:2] != now.cost[:2] and not a.called and (not same_equation or (same_operands and same_shapes))


def _standing(changes: Changes) -> Iterator[_Work]:
    """Yield the work of the module before a step."""
    changed = {place.ins.name for place in changes.new} | {now.ins.name for _, now in changes.kept}
    stayed = (place for name, place in changes.places.items() if name not in changed)
    for place in (*changes.removed.values(), *(then for then, _ in changes.kept), *stayed):
        work = _own_work(place, changes.before) if place.computes else None
        if work is not None:
            yield work


class _Balance:
    """What a step removed and what it added.

    lost, won: by the work that more instructions did before, or do after the step, the names of those. emptied, filled:
    by the equation of which the step only removed, or only added work, the names of the instructions.
    """

    def __init__(self, old: Iterable[Place], new: Iterable[Place], before: _Origins, after: _Origins) -> None:
        gone, came = _Side(old, before), _Side(new, after)
        self.lost, self.won = _more(gone.work, came.work), _more(came.work, gone.work)
        self.emptied = _without(gone.named, came.touched)
        self.filled = _without(came.named, gone.touched)


class _Side:
    """Instructions that a step removed, or that it added.

    work: their names by the work that is certain to be that of an equation. named: of them, those that bear the name of
    the equation, by equation. touched: the equations of all.
    """

    def __init__(self, places: Iterable[Place], origins: _Origins) -> None:
        self.work: dict[_Work, list[str]] = defaultdict(list)
        self.named: dict[str, list[str]] = defaultdict(list)
        self.touched: set[str] = set()
        for place in places:
            name, work = place.ins.name, _work(place, origins)
            self.touched.add(work[0])
            if _is_own(place, origins):
                self.work[work].append(name)
                if place.name and place.computes:
                    self.named[work[0]].append(name)


def _twins(new: Iterable[Place], changes: Changes) -> set[str]:
    """Return the new instructions that repeat one beside them and that nothing reads.

    One that is read may be a pass's own: two rewritings may give the same instruction, and a fusion of several users
    has a copy of their operand for each, until a pass merges them.
    """
    unread = {place.ins.name: place for place in new if place.name}
    computations = {place.computation for place in unread.values()}
    for place in chain.from_iterable(map(changes.beside, computations)):
        for operand in place.ins.operands:
            unread.pop(operand.name, None)
    alone = {_content(place) for place in unread.values()}
    # Nearly all that is new is read: few contents are left to look for.
    computations = {place.computation for place in unread.values()}
    beside = (place for computation in computations for place in changes.beside(computation) if place.computes)
    counts = Counter(content for place in beside if (content := _content(place)) in alone)
    return {name for name, place in unread.items() if counts[_content(place)] > 1}


def _content(place: Place) -> _Content:
    ins = place.ins
    return place.computation, ins.opcode, tuple(x.name for x in ins.operands), str(ins.shape), ins.raw_metadata


def _is_conversion(place: Place) -> bool:
    """Say whether an instruction converts a dtype and is a pass's own: it has no name of jax."""
    return place.ins.opcode == "convert" and not place.name


# The work of instructions.


@lru_cache(maxsize=2**14)
def _without_calls(name: str) -> str:
    return _CALLS.sub("", name)


def _equation(place: Place, origins: _Origins) -> str:
    return _without_calls(origins.get(place.ins.name, ""))


def _work(place: Place, origins: _Origins) -> _Work:
    """Return what an instruction does for an equation."""
    return _equation(place, origins), place.ins.opcode, place.cost.flops, place.cost.transcendentals


def _is_own(place: Place, origins: _Origins) -> bool:
    """Say whether the origin of an instruction is certain: a rewriting pass gives it the name of another equation."""
    origin = origins.get(place.ins.name, "")
    return tail(place.name) == tail(origin) if place.name else bool(origin) and not _is_conversion(place)


def _own_work(place: Place, origins: _Origins) -> _Work | None:
    return _work(place, origins) if _is_own(place, origins) else None


def _more(a: Mapping[_Key, _Names], b: Mapping[_Key, _Names]) -> dict[_Key, _Names]:
    return {key: names for key, names in a.items() if len(names) > len(b.get(key, ()))}


def _without(names: Mapping[str, _Names], equations: set[str]) -> dict[str, _Names]:
    return {equation: own for equation, own in names.items() if equation not in equations}
