"""Liveness: how many bytes are alive at each op of a region, the most of them, and which they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from costax.core.cost import Count
from costax.performance.memory.fusion import Fusion
from costax.performance.memory.workspace import workspace_bytes
from costax.program.regions import Op, Region, Value

# Bytes of a counter, or of the word in which a library says whether it succeeded.
_WORD: Final = 4


@dataclass(slots=True)
class LiveRanges:
    """The memory of a region, op by op.

    sizes: bytes alive while each op runs; of a loop or a branch those beyond what is alive around it. peak: the most
    of them, at op `moment` (-1 before the first), with the values `alive`. inner: by op, the region inside that
    holds most. last: by value, the last op that reads it. slack: how much one buffer at the peak is filled up.
    """

    region: Region
    fusion: Fusion
    sizes: list[Count]
    peak: Count
    moment: int
    alive: tuple[int, ...]
    inner: dict[int, LiveRanges] = field(default_factory=dict[int, "LiveRanges"])
    last: dict[int, int] = field(default_factory=dict[int, int])
    padding: Count = 0


class LivenessAnalysis:
    """Works out the lives of regions, each once.

    fuse: says which values have a buffer. compiled: as XLA gives out memory: results of the program have their place
    from the start, an elementwise result may take the place of an operand that dies, and buffers are aligned.
    """

    def __init__(self, fuse: Callable[[Region], Fusion], *, compiled: bool, alignment: int = 1) -> None:
        """Take the rules."""
        self.fuse = fuse
        self.compiled = compiled
        self.alignment = alignment
        self._known: dict[int, LiveRanges] = {}

    def live_ranges(self, region: Region, *, whole: bool = False) -> LiveRanges:
        """Return the lives of a region; `whole` of a program with its arguments, else beyond what is around it."""
        if id(region) not in self._known:
            self._known[id(region)] = _RegionLiveness(self, region, whole).live_ranges()
        return self._known[id(region)]

    @property
    def limited(self) -> bool:
        """Say whether in some region XLA's limit on copies decided what has a buffer."""
        return any(found.fusion.limited for found in self._known.values())

    def size(self, value: Value) -> Count:
        """Return the bytes that a temporary takes."""
        return -(-value.nbytes // self.alignment) * self.alignment


class _RegionLiveness:
    """One reckoning."""

    def __init__(self, analysis: LivenessAnalysis, region: Region, whole: bool) -> None:
        self.analysis = analysis
        self.region = region
        self.whole = whole
        self.fusion = analysis.fuse(region)
        self.last = self._last_uses()
        self.pinned = self._pinned()
        self.reused = self._reused()
        self.inner: dict[int, LiveRanges] = {}

    def live_ranges(self) -> LiveRanges:
        region, fusion, last = self.region, self.fusion, self.last
        carried = {x for x in region.inputs if region.values[x].kind == "carry"}
        alive: set[int] = self.pinned | carried | (self._donated() if self.whole else set())
        now = sum(self._size(x) for x in alive) + (self._extra_outputs() if self.whole else 0)
        base = 0 if self.whole else now
        sizes: list[Count] = []
        peak, moment, at_peak = now, -1, tuple(sorted(alive))
        padding = self._padding(at_peak)
        for number, op in enumerate(region.ops):
            if not self._runs(op):
                sizes.append(now - base)
                continue
            made = [x for x in op.outputs if x in fusion.buffers and x not in alive]
            dying = [x for x in fusion.reads[number] if last.get(x) == number and x in alive and x not in self.pinned]
            taken = self._taken(op, number, made, dying)
            inside, spare = self._inside(op, number)
            here = now + sum(map(self._size, made)) - sum(map(self._size, taken)) + inside
            sizes.append(here - base)
            if here > peak:
                peak, moment, at_peak = here, number, tuple(sorted((alive | set(made)) - set(taken)))
                padding = max(spare, self._padding(at_peak))
            alive.update(made)
            now += sum(map(self._size, made))
            gone = {x for x in (*dying, *made) if last.get(x, -1) <= number} - self.pinned
            alive -= gone
            now -= sum(map(self._size, gone))
        # The last of the temporaries need not be filled up.
        last_one = padding if self.whole and self.analysis.compiled else 0
        held = peak - base - last_one
        return LiveRanges(region, fusion, sizes, held, moment, at_peak, self.inner, last, padding)

    def _padding(self, alive: Sequence[int]) -> Count:
        """Return the most that is but alignment in one of these."""
        values = self.region.values
        loose = [self._size(x) - values[x].nbytes for x in alive if x not in self.pinned and x not in self.reused]
        return max([0, *loose])

    def _runs(self, op: Op) -> bool:
        return bool(op.regions) or not op.outputs or any(x in self.fusion.buffers for x in op.outputs)

    def _size(self, x: int) -> Count:
        value = self.region.values[x]
        if x in self.reused:
            return 0
        return value.nbytes if x in self.pinned and self.whole else self.analysis.size(value)

    def _pinned(self) -> set[int]:
        """Return what has its place from beginning to end: arguments that are not donated, and maybe results."""
        region = self.region
        if not self.whole:
            return set()
        kept = ("argument", "constant")
        arguments = {x for x in self.fusion.buffers if region.values[x].kind in kept and x not in region.donated}
        if not self.analysis.compiled:
            return arguments
        results = {x for x in region.outputs if x is not None and region.values[x].kind == "made"}
        return arguments | (results - self._lent())

    def _donated(self) -> set[int]:
        return set(self.region.donated) & self.fusion.buffers

    def _lent(self) -> set[int]:
        """Return the results that take the place of a donated argument of the same shape."""
        values = self.region.values
        gifts = [values[x].operand for x in self.region.donated]
        aliased: set[int] = set()
        for x in dict.fromkeys(self.region.outputs):
            if x is not None and values[x].operand in gifts:
                gifts.remove(values[x].operand)
                aliased.add(x)
        return aliased

    def _extra_outputs(self) -> Count:
        """Return the bytes of results that are arguments, constants, or results already: each has its own copy."""
        values, seen = self.region.values, set[int]()
        extra: Count = 0
        for x in self.region.outputs:
            if x is not None and (values[x].kind != "made" or x in seen) and x not in self.region.donated:
                extra += values[x].nbytes
            if x is not None:
                seen.add(x)
        return extra

    def _reused(self) -> set[int]:
        """Return the temporaries that lie in the place of a result of the same size, before it is written."""
        if not (self.whole and self.analysis.compiled):
            return set()
        values, places = self.region.values, dict[Count, list[tuple[int, int]]]()
        for x in self.region.outputs:
            if x is not None and x in self.pinned and values[x].kind == "made":
                places.setdefault(values[x].nbytes, []).append((values[x].op, -1))
        reused, matching = set[int](), self.fusion.matching
        for op in self.region.ops:
            for x in op.outputs:
                if x in self.pinned or x not in self.fusion.buffers or x not in self.last:
                    continue
                rooms = places.get(values[x].nbytes, [])
                # A room is free from its last guest's end until its own result is written, which may be in place.
                until = self.last[x] + (self.last[x] < len(matching) and x not in matching[self.last[x]])
                found = next((i for i, (end, used) in enumerate(rooms) if used < values[x].op and until <= end), None)
                if found is not None:
                    rooms[found] = (rooms[found][0], self.last[x])
                    reused.add(x)
        return reused

    def _inside(self, op: Op, number: int) -> tuple[Count, Count]:
        """Return the bytes that a op takes beside its operands and results, and what of them is but alignment."""
        unit = self.analysis.alignment if self.analysis.compiled else 0
        if not op.regions:
            found = workspace_bytes(op, self.region) if self.analysis.compiled else 0
            # Where there is scratch, there is a table of pointers in it, or a word that says how it went.
            return found, unit - _WORD if found and unit else 0
        live_ranges = [self.analysis.live_ranges(region) for region in op.regions]
        most = max(live_ranges, key=lambda found: found.peak)
        self.inner[number] = most
        if not op.loop or not unit:
            return max(most.peak, 0), most.padding
        # A loop carries a tuple, whose table of pointers is a buffer, a scan its counter, and its condition answers
        # with a boolean, when the temporaries of the body are gone.
        if not op.has_condition:
            return max(most.peak, unit) + 2 * unit, max(most.padding, unit - (_WORD if most.peak else 1))
        held = max(live_ranges[0].peak, live_ranges[1].peak + unit, 0) + (unit if len(op.outputs) > 1 else 0)
        return held, max(most.padding, unit - 1)

    def _taken(self, op: Op, number: int, made: Sequence[int], dying: Sequence[int]) -> list[int]:
        """Return the dying operands whose place a result takes."""
        in_place = op.traits.in_place or op.loop
        if not (in_place or self.analysis.compiled):
            return []
        open_to = dying if op.loop else [x for x in dying if x in self.fusion.matching[number]]
        taken: list[int] = []
        for x in made:
            size = self._size(x)
            fit = next((y for y in open_to if y not in taken and self._size(y) == size), None)
            if fit is not None:
                taken.append(fit)
        return taken

    def _last_uses(self) -> dict[int, int]:
        """Return for each buffer the op that reads it last; results are read at the very end."""
        last: dict[int, int] = {}
        for number, op in enumerate(self.region.ops):
            for x in self.fusion.reads[number] if self._runs(op) else ():
                last[x] = number
        for x in self.region.outputs:
            if x is not None:
                last[x] = len(self.region.ops)
        return last
