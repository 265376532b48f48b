"""Changes: what the compiler made of the instructions of one equation, split into parts that each have a cause."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from costax.compare.causes import (
    DEVICES,
    LIBRARY,
    MADE,
    RECOMPUTED,
    REWRITTEN,
    TREE,
    UPCAST,
    Pair,
)
from costax.compare.stage_costs import AttributedCost, opcodes
from costax.hlo.collectives import kind
from costax.hlo.library_calls import is_idle

# Operations that the compiler writes in place of others.
_STAND_INS: Final[Mapping[str, Sequence[str]]] = {"add": ("subtract",), "multiply": ("divide", "power")}

# A reduction, or a running one, and what its tree is made of.
_OF_TREES: Final = frozenset({"reduce", "reduce-window", "scan", "add", "maximum", "minimum", "multiply"})


def total(charges: Iterable[AttributedCost]) -> Pair:
    """Return what some charges come to."""
    flops = transcendentals = 0
    for charge in charges:
        flops += charge.flops
        transcendentals += charge.transcendentals
    return Pair(flops, transcendentals)


def partitioned(
    before: Sequence[AttributedCost], after: Sequence[AttributedCost], devices: int
) -> Iterator[tuple[str, Pair, int, str]]:
    """Name what the compiler changed of one equation; the share of one device first, where it split the work."""
    if not any(kind(charge.instruction) for charge in before):
        exchanged = [charge for charge in after if kind(charge.instruction)]
        yield MADE, total(exchanged), len(exchanged), f"{opcodes(exchanged)} between devices"
        after = [charge for charge in after if not kind(charge.instruction)]
    old, new = _by_opcode(before), _by_opcode(after)
    split = {opcode for opcode in old if _share(total(old[opcode]), total(new.get(opcode, [])), devices)}
    rest = [[c for c in found if c.opcode not in split] for found in (before, after)]
    # A dot may have become a convolution, with casts that it did not have.
    cast = [c for c in rest[1] if c.opcode == "convert" and "convert" not in old]
    if _share(total(rest[0]), total(rest[1]).minus(total(cast)), devices):
        rest, split = [list[AttributedCost](), cast], {*old, *new} - {c.opcode for c in cast}
    one = [c for c in after if c.opcode in split]
    pair = total(one).minus(total(c for c in before if c.opcode in split))
    yield DEVICES, pair, len(one), f"split over {devices} devices: {opcodes(one)} on one of them"
    yield from _changes(rest[0], rest[1])


def _share(before: Pair, after: Pair, devices: int) -> int:
    """Return k where after is a k-th of before and k divides the devices; 0 where it is none."""
    shares = (k for k in range(2, devices + 1) if devices % k == 0)
    return next((k for k in shares if before != Pair() and after.times(k) == before), 0)


def _changes(before: Sequence[AttributedCost], after: Sequence[AttributedCost]) -> Iterator[tuple[str, Pair, int, str]]:
    """Split what the compiler changed of one equation by opcode, and name each part."""
    old, new = _by_opcode(before), _by_opcode(after)
    moved: list[tuple[str, Pair]] = []
    called = [c for c in after if c.opcode.startswith("custom-call") and c.opcode not in old]
    calls = [c for c in called if not is_idle(c.instruction)]
    replaced = [c for c in before if calls and c.opcode not in new]
    if calls:
        does = sum(c.actual.flops for c in calls)
        evidence = f"{opcodes(replaced)} became {opcodes(calls)}, charged -1 each, which does {does:,} FLOPs"
        yield LIBRARY, total(calls).minus(total(replaced)), len(calls), evidence
    for opcode in sorted((old.keys() | new.keys()) - {c.opcode for c in (*calls, *replaced)}):
        a, b = old.get(opcode, []), new.get(opcode, [])
        pair = total(b).minus(total(a))
        if pair == Pair():
            continue
        if opcode.startswith("custom-call"):
            yield LIBRARY, pair, len(b), f"{opcode} is charged -1"
        elif opcode == "convert" and len(b) > len(a) and pair.work > 0:
            yield UPCAST, pair, len(b), f"{len(b)} converts, {len(a)} before"
        elif a and len(b) > len(a) and min(pair) >= 0 and _are_copies(a, b) and not _stands_in(opcode, old, new):
            yield RECOMPUTED, pair, len(b), f"{len(a)} x {opcode} became {len(b)}: {_homes(b)}"
        else:
            moved.append((opcode, pair))
    rest = Pair(sum(pair.flops for _, pair in moved), sum(pair.transcendentals for _, pair in moved))
    if rest != Pair():
        tree = {opcode for opcode, _ in moved} <= _OF_TREES
        cause = TREE if tree and any(opcode == "reduce-window" for opcode, _ in moved) else REWRITTEN
        yield cause, rest, len(after), f"{opcodes(before)} became {opcodes(after)}"


def _by_opcode(charges: Sequence[AttributedCost]) -> dict[str, list[AttributedCost]]:
    found: dict[str, list[AttributedCost]] = defaultdict(list)
    for charge in charges:
        found[charge.opcode].append(charge)
    return found


def _stands_in(
    opcode: str, old: Mapping[str, Sequence[AttributedCost]], new: Mapping[str, Sequence[AttributedCost]]
) -> bool:
    """Say whether there is less of what an opcode may stand in for, as x + (-c) for x - c, x * (1 / c) for x / c."""
    return any(len(new.get(other, ())) < len(old.get(other, ())) for other in _STAND_INS.get(opcode, ()))


def _are_copies(before: Sequence[AttributedCost], after: Sequence[AttributedCost]) -> bool:
    """Say whether instructions are those before and copies of them: each as large as one of them, in several fusions.

    One more of another size, or beside the first, is no copy.
    """
    sizes = {(charge.flops, charge.transcendentals) for charge in before}
    homes = {charge.computation.id for charge in after}
    return len(homes) > 1 and sizes >= {(charge.flops, charge.transcendentals) for charge in after}


def _homes(charges: Sequence[AttributedCost]) -> str:
    counts = Counter(charge.computation.name for charge in charges)
    return ", ".join(list(counts)[:3]) + (f" and {len(counts) - 3} more" if len(counts) > 3 else "")
