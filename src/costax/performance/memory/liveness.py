"""Liveness: how many bytes are alive while each op of a region runs, the peak, and the values alive at the peak."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from costax.core.cost import Count
from costax.core.polynomial import Polynomial, magnitude, maximum
from costax.performance.memory.compiler import CompilerModel
from costax.performance.memory.fusion import Fusion, fused, unfused
from costax.performance.memory.instruction_fusion import instruction_fused
from costax.performance.memory.invariants import without_invariants
from costax.performance.memory.merged_products import with_merged_products
from costax.performance.memory.rewrites import rewritten_for_cpu, with_expanded_groups, with_shared_initial_values
from costax.performance.memory.schedule import (
    KernelGraph,
    breadth_first,
    depth_first,
    kernel_graph,
    list_order,
    post_order,
)
from costax.performance.memory.simplifications import simplified
from costax.performance.memory.tiles import tiled_bytes
from costax.performance.memory.workspace import workspace_bytes
from costax.program.regions import Op, Region, Value
from costax.rules.traits import NO_TRAITS


@dataclass(slots=True)
class LiveRanges:
    """The memory of a region, op by op.

    sizes: bytes alive while each op runs; for the body of a loop or branch, beyond those alive when it is entered.
    peak: the most of them, at op `moment` (-1: before the first), where the values `alive` are alive. inner: by op, the
    region inside it that needs most. last: by value, the last op that reads it. padding: the most alignment padding of
    one buffer at the peak.
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
    """Computes the live ranges of regions, of each region once.

    model: allocate as this compiler does: values are fused, the results of the program have a buffer from the start, an
    elementwise result may overwrite an operand that dies, and buffers are aligned. None: every result has a buffer of
    its own, as where equations run one by one.
    """

    def __init__(self, model: CompilerModel | None) -> None:
        """Take the model of a compiler."""
        self.model = model
        self.compiled: bool = model is not None
        # The alignment of temporaries, in bytes.
        self.alignment: int = model.alignment if model else 1
        self._by_region: dict[tuple[int, frozenset[int] | None], LiveRanges] = {}

    def live_ranges(self, region: Region, *, whole: bool = False, held: frozenset[int] | None = None) -> LiveRanges:
        """Return the live ranges of a region. whole: it is the whole program, so that its arguments count too.

        held: of a function, the values whose memory is allocated before the call: the arguments that may be freed
        inside, and the results that have a buffer already.
        """
        key = id(region), held
        if key not in self._by_region:
            self._by_region[key] = self._of_best_order(region, whole, held)
        return self._by_region[key]

    def _of_best_order(self, region: Region, whole: bool, held: frozenset[int] | None) -> LiveRanges:
        """Return the live ranges in the order in which the compiler runs the kernels; see `schedule`.

        A function of a very large program is taken as it is written: the values of its callers name its own.
        """
        rewritten = self.rewritten(region, whole) if held is None else region
        # The bytes of what is computed before the loop whose body the region is.
        before: Count = 0
        if self.model is not None and self.model.kind == "cpu" and not whole and held is None and _is_body(region):
            rewritten, before = without_invariants(rewritten)
        liveness = _RegionLiveness(self, rewritten, whole, held or frozenset())
        if self.model is None or held is not None:
            return liveness.live_ranges(liveness.kernels)
        graph = liveness.graph()
        if self.model.schedule == "breadth first":
            ranges = liveness.live_ranges(breadth_first(graph))
            ranges.peak += before
            return ranges
        orders = [list_order(graph), depth_first(graph), post_order(graph)]
        distinct = {tuple(order): order for order in orders}
        return min((liveness.live_ranges(order) for order in distinct.values()), key=lambda ranges: ranges.peak)

    def rewritten(self, region: Region, whole: bool) -> Region:
        """Return a region with what the compiler inserts into it. whole: it is the whole program."""
        if self.model is None:
            return region
        region = simplified(region)
        if self.model.kind != "tpu":
            # A TPU multiplies ragged operands as they are.
            region = with_expanded_groups(region, self.model)
        if self.model.largest_merged:
            region = with_merged_products(region, self.model)
        if self.model.kind == "cpu":
            return rewritten_for_cpu(region)
        return with_shared_initial_values(region, self.model) if whole else region

    def fusion(self, region: Region) -> Fusion:
        """Return which values of a region have a buffer."""
        if self.model is None:
            return unfused(region)
        return instruction_fused(region, self.model) if self.model.kind == "cpu" else fused(region, self.model)

    @property
    def limited(self) -> bool:
        """Say whether XLA's limit on code duplication decided about a buffer of some region."""
        return any(live_ranges.fusion.limited for live_ranges in self._by_region.values())

    def dropped(self, region: Region) -> set[int]:
        """Return the arguments of a program that are no arguments of the compiled one, because nothing reads them.

        Example: the gradient of `ragged_dot(x, w, sizes).sum()` by w does not read w. Source: jax.jit, keep_unused.
        """
        read = {x for op in region.ops for x in op.inputs} | set(region.outputs)
        return {x for x in region.inputs if region.values[x].kind == "argument" and x not in read | region.donated}

    @property
    def many_lookups(self) -> bool:
        """Say whether a kernel of some region gathers from many arrays."""
        return any(live_ranges.fusion.many_lookups for live_ranges in self._by_region.values())

    def size(self, value: Value) -> Count:
        """Return the bytes that a temporary takes, tiles and alignment included."""
        return -(-self.stored(value) // self.alignment) * self.alignment

    def stored(self, value: Value) -> Count:
        """Return the bytes of a value in the layout of the compiler."""
        return tiled_bytes(value) if self.model is not None and self.model.kind == "tpu" else value.nbytes


class _RegionLiveness:
    """The analysis of one region.

    last: by buffer, the op that reads it last. pinned: buffers that live from the first op to the last. reusing:
    temporaries that take no memory of their own, because they lie in the buffer of a result that is written later.
    """

    def __init__(self, analysis: LivenessAnalysis, region: Region, whole: bool, held: frozenset[int]) -> None:
        self.analysis = analysis
        self.region = region
        self.whole = whole
        self.held = held
        self.fusion = analysis.fusion(region)
        self.pinned = self._pinned()
        # The ops that run; any other is fused into its users and computed there.
        self.kernels = [number for number, op in enumerate(region.ops) if self._runs(op)]
        self.order: Sequence[int] = self.kernels
        # By op: its place in the order.
        self.place: dict[int, int] = {}
        self.last: dict[int, int] = {}
        # What a loop reads or writes is a part of the tuple that the loop carries, and shares no memory with a result.
        self.looped = {x for op in region.ops if op.loop for x in (*op.inputs, *op.outputs) if x is not None}
        self.aliased = self._aliased_values()
        self.reusing: set[int] = set()
        self._sizes: dict[int, Count] = {}
        self._workspaces: dict[int, Count] = {}
        self.inner: dict[int, LiveRanges] = {}

    def graph(self) -> KernelGraph:
        """Return the kernels of the region and what each must wait for."""
        values = self.region.values
        sizes = [0 if x in self.pinned else values[x].nbytes for x in range(len(values))]
        model = self.analysis.model
        barriers = model is not None and model.kind != "cpu"
        return kernel_graph(self.region, self.fusion, self.kernels, sizes, barriers=barriers)

    def live_ranges(self, order: Sequence[int]) -> LiveRanges:
        """Go through the kernels in order: allocate the results of each, note the bytes, free the operands that die.

        order: the numbers of the ops that end the kernels.

        Example without fusion: x is an argument of 4 bytes, `y = exp(x); z = y * 2; return z + y`. 4 bytes are alive
        before the first op; 8 while exp runs (x, y), 12 while mul runs (x, y, z), 16 while add runs (x, y, z and the
        result). x stays, as it is not donated; y and z are read by the last op and die after it. The peak is 16.
        """
        self.order, self.place = order, {number: place for place, number in enumerate(order)}
        self.last = last = self._last_uses()
        self.reusing = self._reusing_results()
        self.inner = {}
        self._sizes = {}
        region, fusion = self.region, self.fusion
        carried = {x for x in region.inputs if region.values[x].kind == "carry"}
        alive: set[int] = self.pinned | carried | self.held | (self._donated() if self.whole else set())
        now = sum(self._size(x) for x in alive) + (self._copied_outputs() if self.whole else 0)
        # The carry of a loop body is alive around the loop already; a body counts what it needs beyond.
        base = 0 if self.whole else now
        # The body of a loop shares the on-chip memory with what is around it, which is counted there.
        on_chip = self.analysis.model.on_chip if self.whole and self.analysis.model else 0
        # Bytes of the temporaries alive that can lie there.
        small = self._on_chip(alive, on_chip) if on_chip else 0
        sizes: dict[int, Count] = {}
        entered, peak, moment, peak_place, padding = now, now, -1, -1, 0
        # By value: the place at which it is allocated, and the one at which it is freed. What is alive at the peak
        # follows from them: copying the set at every new peak would take time quadratic in the results.
        born, freed = dict.fromkeys(alive, -2), dict[int, int]()
        extra, missing = list[int](), list[int]()
        for place, number in enumerate(order):
            op = region.ops[number]
            new = [x for x in op.outputs if x in fusion.buffers and x not in alive]
            dying = [x for x in fusion.reads[number] if last.get(x) == number and x in alive and x not in self.pinned]
            if op.call:
                # A function allocates its results and frees its operands itself.
                allocated, overwritten = [], self._freed_inside(op, number, alive, dying)
                inside, inside_padding = self.inner[number].peak, self.inner[number].padding
            else:
                # An operand that dies is still alive while the op runs, unless a result overwrites it.
                allocated, overwritten = new, self._overwritten(op, number, new, dying)
                inside, inside_padding = self._inside(op, number)
            during = now + inside
            if not op.call:
                during += sum(map(self._size, new)) - sum(map(self._size, overwritten))
            if on_chip:
                small += self._on_chip(new, on_chip)
                during -= min(on_chip, small - self._on_chip(overwritten, on_chip) + inside)
            sizes[number] = during - base
            # Of formulas the larger one is the peak at the sizes at which formulas are sorted.
            if magnitude(during) > magnitude(peak):
                peak, moment, peak_place, padding = during, number, place, inside_padding
                extra, missing = allocated, overwritten
            alive.update(new)
            born.update(dict.fromkeys(new, place))
            now += sum(map(self._size, new))
            # A result that nothing reads dies at once.
            dead = {*dying, *(x for x in new if x not in last)} - self.pinned
            alive -= dead
            freed.update(dict.fromkeys(dead, place))
            small -= self._on_chip(dead, on_chip) if on_chip else 0
            now -= sum(map(self._size, dead))
        around = {x for x, start in born.items() if start < peak_place <= freed.get(x, peak_place)}
        at_peak = tuple(sorted((around | set(extra)) - set(missing)))
        padding = max(padding, self._most_padding(at_peak))
        # XLA's allocation ends with the last byte of its last buffer, so the padding of one buffer is not needed; XLA
        # is taken to place the buffer with most padding last. Two temporaries of 1,000 and 300 bytes, aligned to 256:
        # 1,024 + 512 bytes, less the 212 of padding of the second, are 1,324.
        unneeded = padding if self.whole and self.analysis.compiled else 0
        by_op = _by_op(sizes, len(region.ops), now - base)
        if isinstance(peak, Polynomial) and not self.whole:
            # At other sizes another op of the body of a loop or branch may need most.
            peak = maximum(*dict.fromkeys([entered, *(size + base for size in by_op)]))
        return LiveRanges(region, fusion, by_op, peak - base - unneeded, moment, at_peak, self.inner, last, padding)

    def _on_chip(self, arrays: Iterable[int], most: Count) -> Count:
        """Return the bytes of the temporaries that can lie in on-chip memory: not what a loop carries, nor results.

        most: the bytes of that memory; a larger array is not split.
        """
        sizes = (self._size(x) for x in arrays if x not in self.pinned and x not in self.looped)
        return sum(size for size in sizes if size <= most)

    def _most_padding(self, alive: Sequence[int]) -> Count:
        """Return the most alignment padding that one of these temporaries has."""
        values = self.region.values
        own = [x for x in alive if x not in self.pinned and x not in self.reusing]
        return max([0, *(self._size(x) - self.analysis.stored(values[x]) for x in own)])

    def _runs(self, op: Op) -> bool:
        """Say whether an op is, or ends, a kernel, or is a loop or branch; any other is fused into its users."""
        return bool(op.regions) or not op.outputs or any(x in self.fusion.buffers for x in op.outputs)

    def _size(self, x: int) -> Count:
        if x not in self._sizes:
            self._sizes[x] = self._size_in_order(x)
        return self._sizes[x]

    def _size_in_order(self, x: int) -> Count:
        """Return the bytes that a value takes of its own in the present order; see `reusing`."""
        value = self.region.values[x]
        if x in self.reusing:
            return 0
        return self.analysis.stored(value) if x in self.pinned and self.whole else self.analysis.size(value)

    def _pinned(self) -> set[int]:
        """Return the buffers that live from the first op to the last.

        They are the constants, the arguments that are not donated, and, for XLA, the results that have a buffer of
        their own.
        """
        region = self.region
        if not self.whole:
            return set()
        kept = ("argument", "constant")
        arguments = {x for x in self.fusion.buffers if region.values[x].kind in kept and x not in region.donated}
        if not self.analysis.compiled:
            return arguments
        arguments -= self.analysis.dropped(region)
        results = {x for x in region.outputs if x is not None and region.values[x].kind == "computed"}
        return arguments | (results - self._aliased())

    def _donated(self) -> set[int]:
        return set(self.region.donated) & self.fusion.buffers

    def _aliased_values(self) -> set[int]:
        """Return the values that lie in one buffer with others: what is updated in place, and what a loop carries.

        Example: `d = exp(x); d = d.at[i].add(-1)`. The update lies in the buffer of `exp(x)`, which therefore does not
        overwrite x although x dies with it: two arrays are alive.
        """
        if not self.analysis.compiled:
            return set()
        aliased: set[int] = set()
        for op in self.region.ops:
            if op.traits.in_place:
                aliased.update(x for x in (op.inputs[0], *op.outputs) if x is not None)
            elif op.loop:
                aliased.update(x for x in (op.inputs[i] for i in op.carried) if x is not None)
                aliased.update(op.outputs)
        return {x for x in aliased if self.region.values[x].kind == "computed"}

    def _aliased(self) -> set[int]:
        """Return the results that are written into the buffer of a donated argument of the same shape and dtype."""
        values = self.region.values
        available = Counter(values[x].operand for x in self.region.donated)
        aliased: set[int] = set()
        for x in dict.fromkeys(self.region.outputs):
            if x is not None and available[values[x].operand]:
                available[values[x].operand] -= 1
                aliased.add(x)
        return aliased

    def _copied_outputs(self) -> Count:
        """Return the extra bytes of outputs that are inputs, constants or duplicates: each is copied.

        `f(x) = (x, y, y)` returns three buffers: a copy of x, y, and a copy of y.
        """
        values, seen = self.region.values, set[int]()
        extra: Count = 0
        for x in self.region.outputs:
            if x is not None and (values[x].kind != "computed" or x in seen) and x not in self.region.donated:
                extra += values[x].nbytes
            if x is not None:
                seen.add(x)
        return extra

    def _reusing_results(self) -> set[int]:
        """Return the temporaries that lie in the buffer of a result of the same size before the result is written.

        XLA allocates results for the whole program and lets temporaries use them until then. Example: a result of
        4 MB is written by op 7; a temporary of 4 MB that is written by op 2 and last read by op 5 takes no memory of
        its own, and a second one, of ops 6 and 7, reuses the same buffer if op 7 reads it at the index that it writes.
        """
        if not (self.whole and self.analysis.compiled):
            return set()
        # By size: for each result buffer the op that writes the result, and the op until which the buffer is in use.
        values, buffers = self.region.values, dict[Count, list[tuple[int, int]]]()
        for x in self.region.outputs:
            if x is not None and x in self.pinned and values[x].kind == "computed":
                written = self.place[values[x].op]
                buffers.setdefault(values[x].nbytes, []).append((written, -1))
        first_unwritten = dict[Count, int]()
        reusing, overwritable = set[int](), self.fusion.overwritable
        for place, number in enumerate(self.order):
            for x in self.region.ops[number].outputs:
                if x in self.pinned or x in self.looped or x not in self.fusion.buffers or x not in self.last:
                    continue
                same_size = buffers.get(values[x].nbytes, [])
                # Results that are written already are free for no later temporary.
                first = first_unwritten.get(values[x].nbytes, 0)
                while first < len(same_size) and same_size[first][0] < place:
                    first += 1
                first_unwritten[values[x].nbytes] = first
                # The temporary must be dead when the result is written. Only if its last reader reads it at the index
                # that it writes may that reader be the op that writes the result.
                reader = self.last[x]
                last = self.place.get(reader, len(self.order))
                until = last + (reader < len(overwritable) and x not in overwritable[reader])
                unwritten = range(first, len(same_size))
                free = (i for i in unwritten if same_size[i][1] < place and until <= same_size[i][0])
                position = next(free, None)
                if position is not None:
                    same_size[position] = (same_size[position][0], last)
                    reusing.add(x)
        return reusing

    def _inside(self, op: Op, number: int) -> tuple[Count, Count]:
        """Return the bytes that an op needs beside its operands and results, and how much padding they contain."""
        model = self.analysis.model
        if not op.regions:
            if number not in self._workspaces:
                self._workspaces[number] = workspace_bytes(op, self.region, model) if model else 0
            workspace = self._workspaces[number]
            # A workspace comes with a table of pointers or a status word, whose buffer is padding but for a word.
            return workspace, model.alignment - model.word if workspace and model else 0
        inner = [self.analysis.live_ranges(region) for region in op.regions]
        largest = max(inner, key=lambda live_ranges: magnitude(live_ranges.peak))
        self.inner[number] = largest
        if not model:
            return maximum(0, *(live_ranges.peak for live_ranges in inner)), 0
        if not op.loop:
            return max(largest.peak, 0), largest.padding
        unit = model.alignment
        # XLA's loops need small buffers of their own, one alignment unit each. A scan: the table of pointers of the
        # carried tuple, and the counter.
        if not op.has_condition:
            return max(largest.peak, unit) + 2 * unit, max(largest.padding, unit - (model.word if largest.peak else 1))
        # A while loop: the boolean result of the condition, which is alive with the temporaries of the condition and
        # not with those of the body, and the table of pointers where it carries several values.
        body, condition = inner[0], inner[1]
        needed = max(body.peak, condition.peak + unit, 0) + (unit if len(op.outputs) > 1 else 0)
        return needed, max(largest.padding, unit - 1)

    def _freed_inside(self, op: Op, number: int, alive: set[int], dying: Sequence[int]) -> list[int]:
        """Set the live ranges of a called function, and return the operands that it freed before its peak."""
        function = op.regions[0]
        operands = [None if source is None else op.inputs[source] for source in function.sources]
        # An operand that is passed twice stays alive during the call.
        passed = Counter(operands)
        may_free = {x for x in dying if passed[x] == 1}
        arguments = {number: x for number, x in zip(function.inputs, operands, strict=True) if x in may_free}
        computed = [x for x in dict.fromkeys(function.outputs) if x is not None and x not in function.inputs]
        allocated = [r for r, x in zip(computed, op.outputs, strict=True) if x in alive or x in self.reusing]
        self.inner[number] = self.analysis.live_ranges(function, held=frozenset([*arguments, *allocated]))
        return [x for argument, x in arguments.items() if argument not in self.inner[number].alive]

    def _overwritten(self, op: Op, number: int, new: Sequence[int], dying: Sequence[int]) -> list[int]:
        """Return the dying operands that a new result of the same size overwrites.

        A loop overwrites its carry. Any other op overwrites an operand that it reads at the index that it writes:
        without a compiler only updates in place do. XLA shares no buffer of several values with an operand that dies;
        see `aliased`. Source: XLA, heap_simulator.cc, HeapSimulator::RunComputation.
        """
        in_place = op.traits.in_place or op.loop
        if not (in_place or self.analysis.compiled):
            return []
        # A loop overwrites what it carries, and the zeros that it stacks its results in; the others it only reads.
        carried = {op.inputs[i] for i in op.carried}
        carried |= {x for x in op.inputs if x is not None and self._are_zeros(x)}
        candidates = (
            [x for x in dying if x in carried]
            if op.loop
            else [x for x in dying if x in self.fusion.overwritable[number]]
        )
        if not in_place:
            candidates = [x for x in candidates if x not in self.aliased]
        overwritten: list[int] = []
        for x in new:
            if not in_place and x in self.aliased:
                continue
            size = self._size(x)
            operand = next((y for y in candidates if y not in overwritten and self._size(y) == size), None)
            if operand is not None:
                overwritten.append(operand)
        return overwritten

    def _are_zeros(self, x: int) -> bool:
        producer = self.region.values[x].op
        return producer >= 0 and self.region.ops[producer].inserted is NO_TRAITS

    def _last_uses(self) -> dict[int, int]:
        """Return for each buffer the op that reads it last. Results of the region are read after the last op."""
        last: dict[int, int] = {}
        for number in self.order:
            last.update(dict.fromkeys(self.fusion.reads[number], number))
        for x in self.region.outputs:
            if x is not None:
                last[x] = len(self.region.ops)
        return last


def _is_body(region: Region) -> bool:
    """Say whether a region is the body of a loop, and no branch."""
    return any(region.values[x].kind in ("carry", "slice") for x in region.inputs)


def _by_op(sizes: Mapping[int, Count], ops: int, last: Count) -> list[Count]:
    """Return the bytes at each op; an op that is fused into its users has those of the kernel after it."""
    by_op: list[Count] = []
    for number in reversed(range(ops)):
        last = sizes.get(number, last)
        by_op.append(last)
    return by_op[::-1]
