"""Integrity: signs that a module of the chain is not what the compiler wrote.

A pass makes new instructions and removes old ones. It does not change the operation or the extents of one that stays,
does not bring back one that is gone, and does not undo in one step what the step before did. So work that vanishes in
one module and is back in the next is not explained by the two passes, although the steps add up.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from costax.compare.lineage import Changes, Place, tail

_Work = tuple[str, str, int, int]
"""The origin of an instruction, its opcode, and its FLOPs and transcendentals."""

_Content = tuple[int, str, tuple[str, ...], tuple[int, ...], bytes]
"""Computation, opcode, operands, shape and metadata of an instruction."""

REVIVED: Final = "it was gone in the module before and has the same name again"
MUTATED: Final = "a pass does not change the operation or the extents of an instruction that stays"
UNDONE: Final = "the work was gone in the module before, and is back"
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
        self._lost: Mapping[_Work, Sequence[str]] = {}
        self._twins: Mapping[str, str] = {}

    def step(self, number: int, changes: Changes) -> None:
        """Examine the next step."""
        removed = {name: place for name, place in changes.removed.items() if place.computes}
        new = [place for place in changes.new if place.computes]
        for place in new:
            if place.ins.name in self._gone:
                self._doubt(number, place.ins.name, REVIVED)
                self._doubt(self._gone[place.ins.name], place.ins.name, REVIVED)
        for then, now in changes.kept:
            if (then.computes or now.computes) and _is_mutated(then, now):
                self._doubt(number, now.ins.name, MUTATED)
        # What stays with another cost counts as gone and new.
        others = [(then, now) for then, now in changes.kept if then.cost[:2] != now.cost[:2]]
        gone = _by_work([*removed.values(), *(then for then, _ in others)], changes.before)
        came = _by_work([*new, *(now for _, now in others)], changes.after)
        lost, won = _more(gone, came), _more(came, gone)
        for work in self._lost.keys() & won.keys():
            for name in won[work]:
                self._doubt(number, name, UNDONE)
            for name in self._lost[work]:
                self._doubt(number - 1, name, UNDONE)
        every_gone, every_come = _count(removed.values(), changes.before), _count(new, changes.after)
        for name in self._twins.keys() & removed.keys():
            # The other one stays as it is, or fewer come than go.
            work = _all_work(removed[name], changes.before)
            if self._twins[name] not in changes.removed or every_gone[work] > every_come[work]:
                self._doubt(number, name, TWIN)
                self._doubt(number - 1, name, TWIN)
        self._lost = lost
        self._gone.update(dict.fromkeys(removed, number))
        copied = [place for place in new if (work := _work(place, changes.after)) in gone and work in won]
        self._twins = _twins(copied, new, changes)

    def _doubt(self, step: int, name: str, why: str) -> None:
        self.doubts.append(Doubt(step, name, why))


def _is_mutated(then: Place, now: Place) -> bool:
    a, b = then.ins, now.ins
    if a.opcode != b.opcode or a.shape.elements != b.shape.elements:
        return True
    same_operands = [x.name for x in a.operands] == [x.name for x in b.operands]
    same_shapes = [x.shape for x in a.operands] == [x.shape for x in b.operands]
    return then.cost[:2] != now.cost[:2] and same_operands and same_shapes and not a.called


def _work(place: Place, origins: Mapping[str, str]) -> _Work | None:
    """Return what an instruction does; None where a pass gave it the name of another origin, as rewriting does."""
    origin = origins.get(place.ins.name, "")
    is_own = place.name and tail(place.name) == tail(origin)
    return (origin, place.ins.opcode, place.cost.flops, place.cost.transcendentals) if is_own else None


def _all_work(place: Place, origins: Mapping[str, str]) -> _Work:
    return origins.get(place.ins.name, ""), place.ins.opcode, place.cost.flops, place.cost.transcendentals


def _count(places: Iterable[Place], origins: Mapping[str, str]) -> Counter[_Work]:
    return Counter(_all_work(place, origins) for place in places)


def _by_work(places: Iterable[Place], origins: Mapping[str, str]) -> dict[_Work, list[str]]:
    found: dict[_Work, list[str]] = defaultdict(list)
    for place in places:
        work = _work(place, origins)
        if work is not None:
            found[work].append(place.ins.name)
    return found


def _more(a: Mapping[_Work, Sequence[str]], b: Mapping[_Work, Sequence[str]]) -> dict[_Work, Sequence[str]]:
    return {work: names for work, names in a.items() if len(names) > len(b.get(work, ()))}


def _twins(moved: Sequence[Place], new: Sequence[Place], changes: Changes) -> dict[str, str]:
    """Return the new instructions that do what another one beside them does to the same operands, with that one.

    moved: the new instructions that are copies of removed ones, and more than those. A pass may make an instruction
    twice that was not there before.
    """
    groups: dict[_Content, list[str]] = defaultdict(list)
    for computation in {place.computation for place in new}:
        for place in changes.beside(computation):
            if place.computes:
                groups[_content(place)].append(place.ins.name)
    names, moved_names = {place.ins.name for place in new}, {place.ins.name for place in moved}
    twins: dict[str, str] = {}
    for group in groups.values():
        old = [name for name in group if name not in names]
        for name in group if len(group) > 1 else ():
            if name in moved_names or (old and name in names):
                twins[name] = next(other for other in group if other != name)
    return twins


def _content(place: Place) -> _Content:
    ins = place.ins
    return place.computation, ins.opcode, tuple(x.name for x in ins.operands), ins.shape.dims, ins.raw_metadata
