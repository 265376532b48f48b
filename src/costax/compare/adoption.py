"""Adoption: the equations of compiled instructions whose names misplace them, or that have none.

What is left over on both sides is matched: an instruction of which no equation had such an operation, and an equation
of whose operations nothing is left.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from costax.compare.attribution import MARKED, CallSiteIndex, Frontiers, in_common
from costax.compare.stage_costs import AttributedCost
from costax.core.address import Address
from costax.core.cost import Count
from costax.program.call_sites import CallSite

# Operations whose number of FLOPs tells them apart wherever they stand.
_LARGE: Final = frozenset({"dot", "convolution"})
# What a running sum is lowered to; newer XLA has an operation for it.
_RUNNING: Final = frozenset({"reduce-window", "scan"})


def rehomed(
    compiled: Sequence[AttributedCost], lowered: Sequence[AttributedCost], sites: CallSiteIndex, borders: Frontiers
) -> list[AttributedCost]:
    """Return the charges of a compiled module with those put right that its names misplace.

    A dot that took in the transposition of its result bears the transpose's name; it belongs to the equation whose
    result is moved. An operation without a name, whose neighbours had no such operation before, belongs to the
    equation that had the same operation with the same FLOPs, if nothing of that one is left; to the nearest of them.
    """
    before = Counter(_operation(charge) for charge in lowered if charge.call_site is not None)
    moved = [_past_movement(charge, before, sites) for charge in compiled]
    left = Counter(_operation(charge) for charge in moved if charge.evidence == MARKED and charge.call_site is not None)
    homeless: set[int] = set()
    for position, charge in enumerate(moved):
        if charge.work <= 0 or (charge.evidence == MARKED and before[_operation(charge)]):
            continue
        # A neighbour's name is believed as long as its equation still misses such an operation.
        if charge.evidence != MARKED and left[_operation(charge)] < before[_operation(charge)]:
            left[_operation(charge)] += 1
        else:
            homeless.add(position)
    missing = [
        charge
        for charge in lowered
        if charge.call_site is not None and charge.work > 0 and not left[_operation(charge)]
    ]
    windows = [charge for charge in missing if charge.opcode in _RUNNING]
    steps = {i: step for i in homeless if (step := _step(moved[i], windows, borders, sites))}
    split = {id(window) for window, _ in steps.values()}
    adopting = _Adoption([charge for charge in missing if id(charge) not in split], sites)
    return [
        steps[i][1] if i in steps else adopting.adopted(charge) if i in homeless else charge
        for i, charge in enumerate(moved)
    ]


def _step(
    charge: AttributedCost, windows: Sequence[AttributedCost], borders: Frontiers, sites: CallSiteIndex
) -> tuple[AttributedCost, AttributedCost] | None:
    """Return the window that an instruction is a step of, and its charge at the equation of that window.

    Each step applies what the window applied. Where equations share that, it bears the name of any of them, and only
    what the steps are computed from, or what uses them, tells which equation they are of.
    """
    border = borders.get(id(charge.instruction))
    if border is None:
        return None
    before = {place.value for address in border.before if (place := sites.find(address))} | set(border.inputs)
    after = [place for address in border.after if (place := sites.find(address))]
    for window in windows:
        place = window.call_site
        if place is None:
            continue
        follows = not before.isdisjoint(sites.used(place))
        leads = any(place.value in sites.used(user) for user in after)
        if follows or leads:
            evidence = f"inferred: a step of the {window.opcode} of {place.primitive}; nothing else of that one is left"
            return window, replace(charge, call_site=place, evidence=evidence)
    return None


def _operation(charge: AttributedCost) -> tuple[Address, str]:
    return (charge.call_site.address if charge.call_site is not None else (), charge.opcode)


def _past_movement(
    charge: AttributedCost, before: Mapping[tuple[Address, str], int], sites: CallSiteIndex
) -> AttributedCost:
    place = charge.call_site
    while place is not None and charge.work and not place.cost.ops:
        if before.get((place.address, charge.opcode)):
            break
        place = sites.operand(place)
    if place is None or place is charge.call_site or not before.get((place.address, charge.opcode)):
        return charge
    return replace(charge, call_site=place, evidence="inferred: bears the name of what moves its result")


class _Adoption:
    """Operations of lowered equations of which nothing is left, waiting for instructions without a home."""

    def __init__(self, missing: Sequence[AttributedCost], sites: CallSiteIndex) -> None:
        self._atlas = sites
        self._waiting = {
            i: (charge, charge.call_site) for i, charge in enumerate(missing) if charge.call_site is not None
        }
        # Where those stand that wait: by operation and work, by the value that they make, by those that they use, and
        # by those that are operands of theirs.
        self._like: dict[tuple[str, Count], list[int]] = defaultdict(list)
        self._making: dict[int, list[int]] = defaultdict(list)
        self._using: dict[Any, list[int]] = defaultdict(list)
        self._taking: dict[Any, list[int]] = defaultdict(list)
        for i, (charge, place) in self._waiting.items():
            self._like[charge.opcode, charge.work].append(i)
            self._making[place.value].append(i)
            for value in sites.used(place):
                self._using[value].append(i)
            for value in place.operands:
                self._taking[value].append(i)

    def adopted(self, charge: AttributedCost) -> AttributedCost:
        """Give a charge to an equation beside its own, or else to the nearest that had the same operation.

        Beside counts the same operation, or any with as many FLOPs.
        """
        here = charge.call_site
        fitting = next((found for found in self._candidates(charge, here) if found), list[int]())
        if not fitting:
            return charge
        address = here.address if here is not None else ()
        chosen = min(fitting, key=lambda i: _distance(self._waiting[i][1].address, address))
        other, place = self._waiting.pop(chosen)
        if place is here:
            return charge
        evidence = f"inferred: the {other.opcode} of {place.primitive} became it; nothing else of that one is left"
        return replace(charge, call_site=place, evidence=evidence)

    def _candidates(self, charge: AttributedCost, here: CallSite | None) -> Iterator[Sequence[int]]:
        """Yield those that may have become a charge, the likeliest first."""
        equal = [i for i in self._like.get((charge.opcode, charge.work), ()) if i in self._waiting]
        beside = self._beside(here)
        same = [i for i in beside if self._waiting[i][0].opcode == charge.opcode]
        sized = [i for i in beside if self._waiting[i][0].work == charge.work]
        if charge.evidence == MARKED:
            # x - c is x + (-c): the operation changed, the equation did not.
            yield self._at(here, charge)
            yield [i for i in same if i in sized]
            yield self._of(here)
            yield same
        else:
            # x - c becomes x + (-c) and x / c becomes x * (1 / c): a constant operand tells of one.
            constant = any(x.opcode in ("constant", "broadcast") for x in charge.instruction.operands)
            yield [i for i in sized if constant and self._waiting[i][1].scalar_operands]
            yield [i for i in same if i in sized]
            yield equal if charge.opcode in _LARGE else ()
            yield self._sharing(here, charge) if constant else ()
            yield sized
            yield same
        yield equal

    def _of(self, here: CallSite | None) -> list[int]:
        """Return those of the very equation."""
        found = self._standing(self._making.get(here.value, ()) if here is not None else ())
        return [i for i in found if self._waiting[i][1] is here]

    def _at(self, here: CallSite | None, charge: AttributedCost) -> list[int]:
        """Return those of the very equation, with as much work as the charge."""
        return [i for i in self._of(here) if self._waiting[i][0].work == charge.work]

    def _beside(self, here: CallSite | None) -> list[int]:
        """Return those of which one uses the result of the other, past what only moves it."""
        if here is None:
            return []
        makers = [i for value in self._atlas.used(here) for i in self._making.get(value, ())]
        return self._standing([*makers, *self._using.get(here.value, ())])

    def _sharing(self, here: CallSite | None, charge: AttributedCost) -> list[int]:
        """Return those with a known number for an operand that share another operand, with as much work."""
        shared = [i for value in (here.operands if here is not None else ()) for i in self._taking.get(value, ())]
        waiting = ((i, *self._waiting[i]) for i in self._standing(shared))
        return [i for i, other, place in waiting if place.scalar_operands and other.work == charge.work]

    def _standing(self, positions: Sequence[int]) -> list[int]:
        """Return those of some that still wait, in order."""
        return sorted(i for i in set(positions) if i in self._waiting)


def _distance(a: Address, b: Address) -> tuple[int, int]:
    """How far two equations are from each other: marks are numbered in program order."""
    common = in_common(a, b)
    return -common, abs(a[common] - b[common]) if common < min(len(a), len(b)) else 0
