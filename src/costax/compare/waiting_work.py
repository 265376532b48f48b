"""Work that a pass removed, until a new instruction does it: found by its operands, its name or what it reads."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Final

from costax.compare.place import Place
from costax.hlo.replay import Properties

_Content = tuple[str, Properties]
_NONE: Final[Mapping[str, Place]] = {}


class WaitingWork:
    """The removed instructions that compute something and whose work no new one does so far.

    Passes may remove and make thousands of instructions with the same content, so each question has an index.
    """

    def __init__(self, removed: Iterable[Place]) -> None:
        """Take the removed instructions of a step."""
        self._by_content: dict[_Content, dict[str, Place]] = defaultdict(dict)
        self._names: Counter[tuple[_Content, str]] = Counter()
        for place in removed:
            if place.computes:
                self._by_content[place.content][place.ins.name] = place
                self._names[place.content, place.name] += 1
        self._work = {cost[:2] for _, cost in self._by_content}

    def like(self, place: Place) -> Mapping[str, Place]:
        """Return the work with the same opcode and cost as an instruction, by name."""
        return self._by_content.get(place.content, _NONE)

    def has_name_of(self, place: Place) -> bool:
        """Say whether some of the work with the same opcode and cost has the name of jax of an instruction."""
        return self._names[place.content, place.name] > 0

    def with_operands_of(self, place: Place) -> Place | None:
        """Return work with the same opcode, cost and operands as an instruction, in any order of the operands."""
        key = place.content, _operands(place)
        return next((x for x in self._by_operands.get(key, ()) if self._waits(x)), None)

    def has_work(self, work: tuple[int, int]) -> bool:
        """Say whether there was work of as many FLOPs and transcendentals."""
        return work in self._work

    def reading(self, work: tuple[int, int], operands: AbstractSet[str]) -> Place | None:
        """Return work of as many FLOPs and transcendentals that has one of some operands."""
        candidates = (
            next((item for item in self._by_reading.get((work, name), ()) if self._waits(item[1])), None)
            for name in operands
        )
        return min((x for x in candidates if x is not None), key=lambda item: item[0], default=(0, None))[1]

    def take(self, place: Place) -> None:
        """Remove work that a new instruction does."""
        del self._by_content[place.content][place.ins.name]
        self._names[place.content, place.name] -= 1

    def _waits(self, place: Place) -> bool:
        return place.ins.name in self._by_content[place.content]

    @cached_property
    def _by_operands(self) -> Mapping[tuple[_Content, Sequence[str]], Sequence[Place]]:
        found: dict[tuple[_Content, Sequence[str]], list[Place]] = defaultdict(list)
        for content, waiting in self._by_content.items():
            for place in waiting.values():
                found[content, _operands(place)].append(place)
        return found

    @cached_property
    def _by_reading(self) -> Mapping[tuple[tuple[int, int], str], Sequence[tuple[int, Place]]]:
        """The work by its size and by each operand, with its position among all."""
        found: dict[tuple[tuple[int, int], str], list[tuple[int, Place]]] = defaultdict(list)
        places = [place for waiting in self._by_content.values() for place in waiting.values()]
        for position, place in enumerate(places):
            for name in {operand.name for operand in place.ins.operands}:
                found[place.cost[:2], name].append((position, place))
        return found


def _operands(place: Place) -> tuple[str, ...]:
    return tuple(sorted([operand.name for operand in place.ins.operands]))
