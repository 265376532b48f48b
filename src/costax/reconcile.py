"""From our count to XLA's, cause by cause: what the deltas say adds up exactly.

Each equation's FLOPs are followed from the jaxpr through the lowered to the compiled module. What differs at a step
is filed under a cause, with the evidence that a test can falsify. What has none is `unexplained`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from costax.communication import kind
from costax.conventions import XlaCounts, as_xla
from costax.cost import Count
from costax.hlo.libraries import is_idle
from costax.hlo.records import Instruction
from costax.ledger import Charge, Ledger, opcodes
from costax.places import Place
from costax.provenance import Address
from costax.tree import RECOMPUTE, Scope

CONVENTION: Final = "counted by another convention"
PADDING: Final = "padding taps"
LOOP: Final = "loop body counted once"
DEVICES: Final = "one device's share"
BRANCH: Final = "branch maximum"
EXPANSION: Final = "expanded into several operations"
DEFECT: Final = "known defect of XLA's count"
LIBRARY: Final = "library call reported as -1"
MERGED: Final = "merged with an equal equation"
REMAT: Final = "rematerialisation removed"
FOLDED: Final = "folded to a constant"
SIMPLIFIED: Final = "simplified away"
RECOMPUTED: Final = "recomputed in fusions"
UPCAST: Final = "upcast"
TREE: Final = "reduction tree"
REWRITTEN: Final = "rewritten"
CONTROL: Final = "loop control"
MADE: Final = "made by the compiler"
ROUNDING: Final = "float32 rounding"
UNEXPLAINED: Final = "unexplained"

# Primitives whose lowered form XLA charges by a law that is not that of the operation. Source: HloCostAnalysis.
_DEFECTS: Final[Mapping[str, str]] = {
    "fft": "HandleFft: 8 n times the product, not the sum, of the logarithms of the extents",
    "sort": "HandleSort: n log2 n of all elements, not of each row",
    "ragged_dot_general": "HandleRaggedDot drops the wrong dimension, or the groups are masked dense products",
    "cumsum": "lowered to a reduce-window of n terms an element",
    "cumprod": "lowered to a reduce-window of n terms an element",
    "cummax": "lowered to a reduce-window of n terms an element",
    "cummin": "lowered to a reduce-window of n terms an element",
    "cumlogsumexp": "lowered to a reduce-window of n terms an element",
    "top_k": "HandleTopK counts nothing",
    "reduce_scatter": "HandleReduceScatter counts no additions",
    "cholesky": "HandleCholesky: n^3/3 without the lower terms",
    "triangular_solve": "HandleTriangularSolve: 2 n elements of b",
}
_ADDITIONS: Final = frozenset({"add", "add_any"})
_LOOPS: Final = frozenset({"while", "scan"})
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
# Operations that the compiler writes in place of others.
_STAND_INS: Final[Mapping[str, Sequence[str]]] = {"add": ("subtract",), "multiply": ("divide", "power")}
# What they make of equal operands is known: x - x, x != x, max(x, x), a choice between x and x.
_IDEMPOTENT: Final = frozenset(
    {"sub", "div", "eq", "ne", "lt", "le", "gt", "ge", "max", "min", "and", "or", "xor", "select_n"}
)


@dataclass(frozen=True, slots=True)
class Delta:
    """One named part of the difference between our count and XLA's.

    stage: "jaxpr", "lowered", "compiled" or "xla": between which the difference arises. count: how many instructions
    or equations it gathers. evidence: what the claim rests on.
    """

    cause: str
    stage: str
    flops: Count
    transcendentals: Count
    equation: str
    scope: Scope
    source: str
    count: int
    evidence: str


class _Pair(NamedTuple):
    flops: Count = 0
    transcendentals: Count = 0

    @property
    def work(self) -> Count:
        return self.flops + self.transcendentals

    def minus(self, other: tuple[Count, Count]) -> _Pair:
        return _Pair(self.flops - other[0], self.transcendentals - other[1])

    def times(self, factor: Count) -> _Pair:
        return self if factor == 1 else _Pair(self.flops * factor, self.transcendentals * factor)


def reconcile(
    places: Sequence[Place],
    lowered: Ledger,
    compiled: Ledger,
    source: Callable[[Place], str],
    witness: Callable[[Place, str], str],
) -> tuple[Delta, ...]:
    """Return the deltas that lead from our total to XLA's compiled one; they add up exactly.

    places: every equation at each call site. source: the user's file and line of a place. witness: evidence that a
    stage leaves out the equation of a place, by experiment; "" where there is none.
    """
    return tuple(_Account(places, lowered, compiled, source, witness).deltas())


class _Account:
    def __init__(
        self,
        places: Sequence[Place],
        lowered: Ledger,
        compiled: Ledger,
        source: Callable[[Place], str],
        witness: Callable[[Place, str], str],
    ) -> None:
        self.places = places
        self.lowered, self.compiled = lowered, compiled
        self.source, self.witness = source, witness
        self.in_lowered, self.stray_lowered = _by_place(lowered.charges)
        self.in_compiled, self.stray_compiled = _by_place(compiled.charges)
        self.equals: dict[int, list[Place]] = defaultdict(list)
        self.alike: dict[Any, list[Place]] = defaultdict(list)
        self.users: dict[Any, list[Place]] = defaultdict(list)
        self.at = {place.address: place for place in places}
        # What XLA's rules charge for one run of each place, every loop in it as often as its body stands there.
        self.charged = {place.address: _Pair(*as_xla(place.once)) for place in places}
        for place in places:
            self.equals[place.value].append(place)
            self.alike[place.loose].append(place)
            for value in place.operands:
                self.users[value].append(place)

    def deltas(self) -> Iterator[Delta]:
        for place in self.places:
            yield from self._conventions(place)
            yield from self._lowering(place)
            yield from self._compiling(place)
        yield from self._strays(self.stray_lowered, "lowered", 1)
        # What only the lowered module has and belongs to no equation is gone from the compiled one.
        yield from self._strays(self.stray_lowered, "compiled", -1)
        yield from self._strays(self.stray_compiled, "compiled", 1)
        yield from self._rounding()

    # jaxpr: our count, as XLA's rules would charge the very same equations.

    def _conventions(self, place: Place) -> Iterator[Delta]:
        cost, runs = place.cost, place.loops * place.devices * place.others * place.taken
        once = self.charged[place.address]
        ours = _Pair(cost.flops, cost.transcendentals).times(runs)
        padding = _Pair(-2 * cost.padding_macs, 0).times(runs)
        theirs = (once if place.once is cost else _Pair(*as_xla(cost))).times(runs)
        standing = once.times(place.copies * place.devices * place.others * place.taken)
        shard = once.times(place.copies * place.others * place.taken)
        weighed = self._weighed(place)
        if ours == theirs == standing == shard == weighed and padding == _Pair():
            return
        yield from self._delta(PADDING, "jaxpr", place, padding, f"{cost.padding_macs:,} MACs touch only padding")
        kinds = sorted({kind for kind, _ in dict(cost.items())} & {"integer", "compare", "select", "convert", "mac"})
        other = theirs.minus(ours).minus(padding)
        yield from self._delta(CONVENTION, "jaxpr", place, other, f"{', '.join(kinds)} operations are FLOPs to XLA")
        charged = "once" if place.copies == 1 else f"{place.copies:,} times, as often as it stands there,"
        yield from self._delta(
            LOOP,
            "jaxpr",
            place,
            standing.minus(theirs),
            f"runs {place.loops:,} times, charged {charged} by HandleWhile",
        )
        yield from self._delta(
            DEVICES, "jaxpr", place, shard.minus(standing), f"{place.devices} devices run it, one is charged"
        )
        yield from self._delta(
            BRANCH,
            "jaxpr",
            place,
            weighed.minus(shard),
            f"XLA takes the maximum of each property ({self._taken(place)})",
        )

    def _weighed(self, place: Place) -> _Pair:
        """What XLA's rules charge for a place: each copy once, and of branches the one that XLA takes."""
        pair = self.charged[place.address].times(place.copies * place.others)
        for at, branch, taken in place.branches:
            weights = self.lowered.branches.get(at)
            share = weights[branch] if weights and branch < len(weights) else (int(taken), int(taken))
            pair = _Pair(pair.flops * share[0], pair.transcendentals * share[1])
        return pair

    def _taken(self, place: Place) -> str:
        return ", ".join(f"branch {branch}: {'ours' if taken else 'not ours'}" for _, branch, taken in place.branches)

    # lowered: what jax's lowering made of the equation.

    def _lowering(self, place: Place) -> Iterator[Delta]:
        found = self.in_lowered.get(place.address, [])
        expected, made = self._weighed(place), _sum(found)
        difference = made.minus(expected)
        if difference == _Pair():
            return
        if made == _Pair() and place.primitive not in _DEFECTS:
            yield self._gone(place, "lowered", difference, self.in_lowered)
            return
        cause, evidence = self._how_lowered(place, found)
        yield from self._delta(cause, "lowered", place, difference, evidence, len(found))

    def _how_lowered(self, place: Place, found: Sequence[Charge]) -> tuple[str, str]:
        if any(charge.flops < 0 for charge in found):
            return LIBRARY, f"{opcodes(found)}"
        if place.primitive in _LOOPS:
            return CONTROL, f"{opcodes(found)} around the body"
        if place.primitive in _DEFECTS:
            return DEFECT, f"{_DEFECTS[place.primitive]}; lowered to {opcodes(found)}"
        return EXPANSION, f"lowered to {opcodes(found)}"

    # compiled: what the compiler made of the lowered instructions.

    def _compiling(self, place: Place) -> Iterator[Delta]:
        before, after = self.in_lowered.get(place.address, []), self.in_compiled.get(place.address, [])
        difference = _sum(after).minus(_sum(before))
        if difference == _Pair():
            return
        if not after:
            yield self._gone(place, "compiled", difference, self.in_compiled)
            return
        if place.address in self.compiled.hidden:
            yield self._made(DEFECT, "compiled", place, difference, self.compiled.hidden[place.address], len(after))
            return
        for cause, pair, count, evidence in _partitioned(before, after, self.compiled.devices):
            yield from self._delta(cause, "compiled", place, pair, evidence, count)

    def _gone(self, place: Place, stage: str, difference: _Pair, left: Mapping[Address, Sequence[Charge]]) -> Delta:
        """Say why nothing of an equation is left at a stage."""
        twins = (*self.equals[place.value], *self.alike[place.loose], *self._powers(place), *self._past(place))
        twin = next((other for other in twins if other is not place and left.get(other.address)), None)
        if difference.work > 0:
            cause, evidence = LIBRARY, "its call, which is charged -1, is gone"
        elif twin is not None:
            cause = REMAT if place.direction == RECOMPUTE else MERGED
            where = "/".join(twin.scope) or "the top"
            evidence = f"an equal equation in {where} ({self._line(twin)}) is there: {opcodes(left[twin.address])}"
        elif stage == "compiled" and place.address in self.compiled.hidden:
            cause, evidence = (BRANCH if place.branches else DEFECT), self.compiled.hidden[place.address]
        elif any(child.loop for child in place.node.children):
            cause, evidence = CONTROL, f"no loop is left of the {opcodes(self.in_lowered.get(place.address, []))}"
        elif place.fixed or place.known:
            cause, evidence = FOLDED, f"it is {place.known}" if place.known else "no input of the program reaches it"
        else:
            cause, evidence = self._simplified(place, stage, left)
        return self._made(cause, stage, place, difference, evidence, 1)

    def _near(self, place: Place) -> list[Place]:
        return [*self.users[place.value], *(other for value in place.operands for other in self.equals[value])]

    def _around(self, place: Place) -> Place | None:
        """Return the innermost loop, branch, kernel or mesh around a place: its results go round, or out of it."""
        for n in range(len(place.address) - 1, 0, -1):
            found = self.at.get(place.address[:n])
            inner = found.node.children if found is not None else ()
            if any(x.loop or x.per_device or x.label.startswith("branch_") for x in inner):
                return found
        return None

    def _scatters_into(self, place: Place, left: Mapping[Address, Sequence[Charge]]) -> Instruction | None:
        """Return the scatter of one operand of an addition that no longer starts from a constant."""
        operands = [x for value in place.operands for x in self.equals[value] if x.primitive == "scatter-add"]
        found = [c.instruction for x in operands for c in left.get(x.address, []) if c.opcode == "scatter"]
        starts = (ins for ins in found if ins.operand(0).opcode not in ("broadcast", "constant"))
        return next(starts, None) if place.primitive in _ADDITIONS else None

    def _past(self, place: Place) -> Sequence[Place]:
        """Return the same operation before the movement of its operand: f(concatenate(x)) is concatenate(f(x))."""
        moving = [x for value in place.operands for x in self.equals[value] if not x.cost.ops]
        makers = [other for x in moving for value in x.operands for other in self.users[value]]
        return [other for other in makers if other.primitive == place.primitive]

    def _powers(self, place: Place) -> Sequence[Place]:
        """Return the other powers of an operand: x * x is a part of x**3."""
        if place.primitive not in _POWERS:
            return ()
        return [other for value in set(place.operands) for other in self.users[value] if other.primitive in _POWERS]

    def _simplified(self, place: Place, stage: str, left: Mapping[Address, Sequence[Charge]]) -> tuple[str, str]:
        """Say which rule of algebra, or which other equation, made an equation unnecessary."""
        neutral = next((x for x in place.scalars if x in _NEUTRAL.get(place.primitive, ())), None)
        if neutral is not None:
            return SIMPLIFIED, f"{place.primitive} with {neutral}"
        if place.fixed_operands:
            return SIMPLIFIED, "no input of the program reaches one of its operands"
        if place.alike and place.primitive in _IDEMPOTENT:
            return SIMPLIFIED, f"{place.primitive} of equal operands"
        inner = next((x for value in place.operands for x in self.equals[value]), None)
        if place.primitive in _PROJECTIONS and inner is not None and inner.primitive == place.primitive:
            return SIMPLIFIED, f"{place.primitive} of {inner.primitive}"
        started = self._scatters_into(place, left)
        if started is not None:
            return SIMPLIFIED, f"{started.name} adds into its other operand instead of into zeros"
        users = self.users[place.value]
        if users and not any(left.get(user.address) for user in users):
            return SIMPLIFIED, f"nothing that uses its result is left ({len(users)} equations)"
        around = None if users else self._around(place)
        if around is not None:
            return SIMPLIFIED, f"the {around.primitive} around it no longer carries its result"
        near = self._near(place)
        further = [other for at in near for other in self._near(at)]
        constant = next((x for x in (*near, *further) if x.scalars and x is not place and left.get(x.address)), None)
        if place.scalars and constant is not None:
            return SIMPLIFIED, f"its constant is combined with that of {constant.primitive} beside it"
        siblings = [other for value in place.operands for other in self.users[value] if other is not place]
        for other in siblings:
            before, after = self.in_lowered.get(other.address, []), left.get(other.address, [])
            if other.primitive == place.primitive and _sum(after).work > _sum(before).work > 0:
                return MERGED, f"one {opcodes(after)} does both this and the {other.primitive} that shares an operand"
        for other in near:
            before, after = self.in_lowered.get(other.address, []), left.get(other.address, [])
            if after and opcodes(before) != opcodes(after):
                return REWRITTEN, f"{other.primitive} beside it took it over: {opcodes(before)} became {opcodes(after)}"
        shown = self.witness(place, stage)
        if shown:
            return SIMPLIFIED, shown
        if users and not any(c.evidence == "marked" for user in users for c in left.get(user.address, ())):
            return SIMPLIFIED, f"no instruction bears the name of what uses its result ({len(users)} equations)"
        return UNEXPLAINED, "no instruction comes from it, and no rule of ours says why"

    # What belongs to no equation.

    def _strays(self, strays: Sequence[Charge], stage: str, sign: int) -> Iterator[Delta]:
        groups: dict[str, list[Charge]] = defaultdict(list)
        for charge in strays:
            groups[charge.opcode].append(charge)
        for opcode, found in sorted(groups.items()):
            pair = _sum(found).times(sign)
            if pair != _Pair():
                names = ", ".join(charge.instruction.name for charge in found[:3])
                cause = LIBRARY if any(charge.flops < 0 for charge in found) else MADE
                yield Delta(cause, stage, *pair, opcode, (), "", len(found), f"instructions {names}")

    def _rounding(self) -> Iterator[Delta]:
        exact, printed = self.compiled.total, self.compiled.float32
        flops = int(printed.flops) - exact.flops
        transcendentals = int(printed.transcendentals) - exact.transcendentals
        if flops or transcendentals:
            evidence = f"exact {exact.flops:,} FLOPs, {exact.transcendentals:,} transcendentals; added up in float32"
            yield Delta(ROUNDING, "xla", flops, transcendentals, "", (), "", 1, evidence)

    def _delta(
        self, cause: str, stage: str, place: Place, pair: _Pair, evidence: str, count: int = 1
    ) -> Iterator[Delta]:
        if pair != _Pair():
            yield self._made(cause, stage, place, pair, evidence, count)

    def _made(self, cause: str, stage: str, place: Place, pair: _Pair, evidence: str, count: int) -> Delta:
        return Delta(cause, stage, *pair, place.primitive, place.scope, self._line(place), count, evidence)

    def _line(self, place: Place) -> str:
        """Return the user's line of a place; where jax kept none, that of the call it lies in."""
        found, address = self.source(place), place.address[:-1]
        while not found and address:
            found = self.source(self.at[address]) if address in self.at else ""
            address = address[:-1]
        return found


def _by_place(charges: Iterable[Charge]) -> tuple[dict[Address, list[Charge]], list[Charge]]:
    found: dict[Address, list[Charge]] = defaultdict(list)
    strays: list[Charge] = []
    for charge in charges:
        if charge.place is not None:
            found[charge.place.address].append(charge)
        else:
            strays.append(charge)
    return found, strays


def _sum(charges: Iterable[Charge]) -> _Pair:
    flops = transcendentals = 0
    for charge in charges:
        flops += charge.flops
        transcendentals += charge.transcendentals
    return _Pair(flops, transcendentals)


def _partitioned(
    before: Sequence[Charge], after: Sequence[Charge], devices: int
) -> Iterator[tuple[str, _Pair, int, str]]:
    """Name what the compiler changed of one equation; the share of one device first, where it split the work."""
    if not any(kind(charge.instruction) for charge in before):
        exchanged = [charge for charge in after if kind(charge.instruction)]
        yield MADE, _sum(exchanged), len(exchanged), f"{opcodes(exchanged)} between devices"
        after = [charge for charge in after if not kind(charge.instruction)]
    old, new = _by_opcode(before), _by_opcode(after)
    split = {opcode for opcode in old if _share(_sum(old[opcode]), _sum(new.get(opcode, [])), devices)}
    rest = [[c for c in found if c.opcode not in split] for found in (before, after)]
    whole = _share(_sum(rest[0]), _sum(rest[1]), devices)
    if whole:
        rest, split = [list[Charge](), list[Charge]()], {*old, *new}
    one = [c for c in after if c.opcode in split]
    pair = _sum(one).minus(_sum(c for c in before if c.opcode in split))
    yield DEVICES, pair, len(one), f"split over {devices} devices: {opcodes(one)} on one of them"
    yield from _changes(rest[0], rest[1])


def _share(before: _Pair, after: _Pair, devices: int) -> int:
    """Return k where after is a k-th of before and k divides the devices; 0 where it is none."""
    shares = (k for k in range(2, devices + 1) if devices % k == 0)
    return next((k for k in shares if before != _Pair() and after.times(k) == before), 0)


def _changes(before: Sequence[Charge], after: Sequence[Charge]) -> Iterator[tuple[str, _Pair, int, str]]:
    """Split what the compiler changed of one equation by opcode, and name each part."""
    old, new = _by_opcode(before), _by_opcode(after)
    moved: list[tuple[str, _Pair]] = []
    called = [c for c in after if c.opcode.startswith("custom-call") and c.opcode not in old]
    calls = [c for c in called if not is_idle(c.instruction)]
    replaced = [c for c in before if calls and c.opcode not in new]
    if calls:
        does = sum(c.true.flops for c in calls)
        evidence = f"{opcodes(replaced)} became {opcodes(calls)}, charged -1 each, which does {does:,} FLOPs"
        yield LIBRARY, _sum(calls).minus(_sum(replaced)), len(calls), evidence
    for opcode in sorted((old.keys() | new.keys()) - {c.opcode for c in (*calls, *replaced)}):
        a, b = old.get(opcode, []), new.get(opcode, [])
        pair = _sum(b).minus(_sum(a))
        if pair == _Pair():
            continue
        if opcode.startswith("custom-call"):
            yield LIBRARY, pair, len(b), f"{opcode} is charged -1"
        elif opcode == "convert" and len(b) > len(a) and pair.work > 0:
            yield UPCAST, pair, len(b), f"{len(b)} converts, {len(a)} before"
        elif a and len(b) > len(a) and min(pair) >= 0 and _are_copies(a, b) and not _stands_in(opcode, old, new):
            yield RECOMPUTED, pair, len(b), f"{len(a)} x {opcode} became {len(b)}: {_homes(b)}"
        else:
            moved.append((opcode, pair))
    total = _Pair(sum(pair.flops for _, pair in moved), sum(pair.transcendentals for _, pair in moved))
    if total != _Pair():
        tree = {opcode for opcode, _ in moved} <= {"reduce", "reduce-window", "add", "maximum", "minimum", "multiply"}
        cause = TREE if tree and any(opcode == "reduce-window" for opcode, _ in moved) else REWRITTEN
        yield cause, total, len(after), f"{opcodes(before)} became {opcodes(after)}"


def _by_opcode(charges: Sequence[Charge]) -> dict[str, list[Charge]]:
    found: dict[str, list[Charge]] = defaultdict(list)
    for charge in charges:
        found[charge.opcode].append(charge)
    return found


def _stands_in(opcode: str, old: Mapping[str, Sequence[Charge]], new: Mapping[str, Sequence[Charge]]) -> bool:
    """Say whether there is less of what an opcode may stand in for, as x + (-c) for x - c, x * (1 / c) for x / c."""
    return any(len(new.get(other, ())) < len(old.get(other, ())) for other in _STAND_INS.get(opcode, ()))


def _are_copies(before: Sequence[Charge], after: Sequence[Charge]) -> bool:
    """Say whether instructions are those before and copies of them: each as large as one of them, in several fusions.

    One more of another size, or beside the first, is no copy.
    """
    sizes = {(charge.flops, charge.transcendentals) for charge in before}
    homes = {charge.computation.id for charge in after}
    return len(homes) > 1 and sizes >= {(charge.flops, charge.transcendentals) for charge in after}


def _homes(charges: Sequence[Charge]) -> str:
    counts = Counter(charge.computation.name for charge in charges)
    return ", ".join(list(counts)[:3]) + (f" and {len(counts) - 3} more" if len(counts) > 3 else "")


def unexplained(deltas: Sequence[Delta]) -> tuple[Delta, ...]:
    """Return the deltas that no evidence explains."""
    return tuple(delta for delta in deltas if delta.cause == UNEXPLAINED)


__all__ = ["Delta", "XlaCounts", "reconcile", "unexplained"]
