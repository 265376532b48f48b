"""The kernels of a compiled module: XLA's fusions, and the other instructions that run as one kernel each.

Before optimisation a module has no fusions: each instruction is then a kernel of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from costax.core.cost import Count
from costax.hlo.collectives import ASYNC_START, SEND, Collective
from costax.hlo.metadata import Site
from costax.hlo.records import Computation, Instruction, Module
from costax.hlo.replay import Properties
from costax.hlo.schedule import Schedule
from costax.performance.contractions import Contraction, compiled_precision, compiled_sizes
from costax.performance.cpu.small_calls import inlined_computations
from costax.performance.kernels import CollectiveWork, Kernel, SchedulePlace
from costax.program.tree import Scope

# Instructions that run no kernel: they call computations, pass on their operands, or wait for what was started.
_BOOKKEEPING: Final = frozenset(
    {
        *("while", "conditional", "call", "tuple", "get-tuple-element", "parameter", "bitcast", "constant"),
        *("after-all", "add-dependency", "opt-barrier", "domain", "async-start", "async-update", "async-done"),
        *("all-reduce-done", "all-gather-done", "collective-permute-done", "copy-done", "send-done", "recv-done"),
    }
)


@dataclass(frozen=True, slots=True)
class ExecutedInstruction:
    """An instruction at one of its call sites, or at all together.

    runs: how often it runs. once: the work of one run. scope, direction: of the equation that it belongs to. source:
    its source line. work: by which the instruction of a kernel is chosen that names its scope. owned: its scope is
    known, even if it is the outermost. site: of the computation, where its calls are told apart; each has kernels of
    its own.
    """

    computation: Computation
    instruction: Instruction
    runs: Count
    once: Properties
    scope: Scope = ()
    direction: str = ""
    source: str = ""
    work: Count = 0
    owned: bool = True
    site: Site | None = None


def of_module(
    module: Module, executed: Sequence[ExecutedInstruction], collectives: Mapping[str, Collective]
) -> list[Kernel]:
    """Return the kernels of a module; `times` of a kernel in a loop is the number of its iterations.

    executed: the instructions that cost something. collectives: by the name of the instruction.
    """
    fusions = _outermost_fusions(module)
    by_kernel: dict[tuple[int, Count, Site | None], list[ExecutedInstruction]] = defaultdict(list)
    for cost in executed:
        # A computation that is called from loops of different lengths has a kernel for each number of runs.
        owner = fusions.get(cost.computation.id, cost.instruction)
        by_kernel[id(owner), cost.runs, cost.site].append(cost)
    kernels: list[Kernel] = []
    loops: list[Computation | None] = []
    computation_of = {x.id: c for c in module.computations.values() for x in c.instructions}
    schedule, inlined = Schedule(module), inlined_computations(module)
    runs: dict[int, Count] = {}
    for cost in executed:
        runs[cost.computation.id] = max(runs.get(cost.computation.id, 0), cost.runs)
    for costs in by_kernel.values():
        owner = fusions.get(costs[0].computation.id, costs[0].instruction)
        if owner.opcode in _BOOKKEEPING:
            continue
        calls = max(1, sum(cost.instruction is owner for cost in costs))
        places = tuple(SchedulePlace(*span, runs.get(span.computation, 1)) for span in schedule.spans(owner))
        kernel = _kernel(owner, costs, calls, collectives)
        kernels.append(replace(kernel, places=places, inlined=costs[0].computation.id in inlined))
        computation = computation_of.get(owner.id)
        loops.append(computation if computation is not module.entry and costs[0].runs > 1 else None)
    return _with_reuse_distance(kernels, loops)


def _with_reuse_distance(kernels: list[Kernel], loops: list[Computation | None]) -> list[Kernel]:
    """Return the kernels with the bytes that one iteration moves, for those in a loop. loops: the body of its loop."""
    moved: dict[int, int] = defaultdict(int)
    for kernel, loop in zip(kernels, loops, strict=True):
        if loop is not None:
            moved[loop.id] += kernel.moved
    return [
        kernel if loop is None else replace(kernel, reuse_distance=moved[loop.id])
        for kernel, loop in zip(kernels, loops, strict=True)
    ]


def _outermost_fusions(module: Module) -> dict[int, Instruction]:
    """Return for each computation inside a fusion, by its id, the outermost fusion around it."""
    direct: dict[int, tuple[Instruction, Computation]] = {}
    for computation in module.computations.values():
        for ins in computation.instructions:
            if ins.opcode == "fusion":
                direct.update({callee.id: (ins, computation) for callee in ins.called})
    outermost: dict[int, Instruction] = {}
    for number, (ins, computation) in direct.items():
        while computation.id in direct:
            ins, computation = direct[computation.id]
        outermost[number] = ins
    return outermost


def _kernel(
    owner: Instruction, costs: list[ExecutedInstruction], calls: int, collectives: Mapping[str, Collective]
) -> Kernel:
    """Return the kernel of an instruction. costs: of it and the instructions inside it, of all calls together."""
    contractions: dict[int, Contraction] = {}
    vector: dict[str, int] = defaultdict(int)
    transcendental: dict[str, int] = defaultdict(int)
    for cost in costs:
        ins, once = cost.instruction, cost.once
        if contracts(ins, once.flops):
            contractions[id(ins)] = _contraction(ins, once.flops, fused=ins is not owner)
        elif once.flops > 0:
            vector[_dtype(ins)] += once.flops
        if once.transcendentals > 0:
            transcendental[_dtype(ins)] += once.transcendentals
    # XLA counts the whole operand of a gather in a fusion, and the kernel reads only the rows that the gather takes.
    inside = owner.called[0].instructions if owner.opcode == "fusion" and owner.called else ()
    not_read = sum(max(_bytes(x.operand(0)) - _bytes(x), 0) for x in inside if x.opcode == "gather")
    moved = sum(cost.once.bytes for cost in costs if cost.once.bytes > 0)
    moved = max(moved - not_read * calls, 0)
    # The kernel has the scope of the equation with most work in it.
    by_work = sorted(costs, key=lambda cost: -cost.work)
    named = next((cost for cost in by_work if cost.owned), by_work[0])
    collective = collectives.get(owner.name) or _fused_collective(costs, inside, collectives)
    return Kernel(
        owner.name if owner.opcode != "custom-call" else owner.custom_call_target,
        named.scope,
        named.direction,
        tuple(contractions.values()),
        {dtype: count // calls for dtype, count in vector.items()},
        {dtype: count // calls for dtype, count in transcendental.items()},
        read=moved // calls,
        collective=_collective_work(collective),
        times=costs[0].runs * calls,
        transposes=_transposes(owner) or any(map(_transposes, inside)),
        uncached_bytes=min(moved // calls, sum(_bytes(x) for x in dict.fromkeys(owner.operands) if _is_argument(x))),
        instruction=owner.name,
        opcode=owner.opcode,
        reduces=any(x.opcode in ("reduce", "reduce-window") for x in (owner, *inside)),
        source=named.source,
        origin=owner,
        is_library=owner.opcode == "fusion" and owner.fusion_kind == "kCustom",
    )


def _fused_collective(
    costs: Sequence[ExecutedInstruction], inside: Sequence[Instruction], collectives: Mapping[str, Collective]
) -> Collective | None:
    """Return the collective that a fusion of a TPU waits for; None without one, or where it only starts one.

    What it starts runs beside the fusions after it, which the compiler has chosen to hide it.
    """
    if any(x.opcode == "custom-call" and x.custom_call_target == ASYNC_START for x in inside):
        return None
    return next((collectives[x.instruction.name] for x in costs if x.instruction.name in collectives), None)


def contracts(ins: Instruction, flops: int) -> bool:
    """Say whether an instruction is a product or a convolution. flops: its own."""
    return ins.opcode in ("dot", "convolution", "ragged-dot") or (ins.opcode == "custom-call" and flops > 0)


def _contraction(ins: Instruction, flops: int, *, fused: bool) -> Contraction:
    """Return a contraction. fused: it is in a fusion; XLA compiles a convolution outside of one to a plain loop."""
    dtype = _dtype(ins)
    operand = _dtype(ins.operands[0]) if ins.operands else dtype
    both = operand if operand == dtype else f"{operand}*{operand}->{dtype}"
    if ins.opcode == "convolution":
        kind = "depthwise" if ins.feature_group_count > 1 else "convolution" if fused else "plain convolution"
        # XLA may swap the operands of a plain convolution whose image is smaller than its filter.
        filter_bytes = max(_bytes(x) for x in ins.operands) if kind == "plain convolution" else _bytes(ins.operand(1))
        return Contraction(kind, both, flops, 0, filter_bytes, compiled_sizes(ins), compiled_precision(ins))
    kind = "convolution" if "conv" in ins.custom_call_target.lower() else "matmul"
    return Contraction(kind, both, flops, _rows(ins), 0, compiled_sizes(ins), compiled_precision(ins))


def _transposes(ins: Instruction) -> bool:
    """Say whether an instruction writes its operand's elements in another order than they lie in memory."""
    if ins.opcode not in ("copy", "transpose"):
        return False
    before, after = ins.operand(0).shape, ins.shape
    if before.layout is None or after.layout is None:
        return False
    permutation = ins.dimensions if ins.opcode == "transpose" else tuple(range(len(after.dims)))
    written = [permutation[axis] for axis in after.layout.minor_to_major if after.dims[axis] > 1]
    return written != [axis for axis in before.layout.minor_to_major if before.dims[axis] > 1]


def _is_argument(ins: Instruction) -> bool:
    """Say whether an operand is an argument of the computation, possibly reshaped or part of a tuple."""
    while ins.opcode in ("bitcast", "reshape", "get-tuple-element") and ins.operands:
        ins = ins.operands[0]
    return ins.opcode == "parameter"


def _rows(ins: Instruction) -> int:
    """Return the smaller free extent of a product; 0 for any other instruction."""
    if ins.opcode != "dot":
        return 0
    d = ins.dot_dimensions
    sides = ((ins.operand(0), d.lhs_contracting, d.lhs_batch), (ins.operand(1), d.rhs_contracting, d.rhs_batch))
    return min(
        prod(n for axis, n in enumerate(x.shape.dims) if axis not in (*contracted, *batch))
        for x, contracted, batch in sides
    )


def _bytes(ins: Instruction) -> int:
    return sum(leaf.elements * leaf.element_bits // 8 for leaf in ins.shape.arrays())


def _dtype(ins: Instruction) -> str:
    return next((leaf.dtype for leaf in ins.shape.arrays()), "f32")


def _collective_work(collective: Collective | None) -> CollectiveWork | None:
    if collective is None:
        return None
    name = {"collective-permute": "permute", "collective-broadcast": "permute", "ragged-all-to-all": "all-to-all"}
    name[SEND] = "permute"
    members = len(next(iter(collective.groups), ())) or 2
    # The operand of an all-gather is one device's part, and the time formulas take the bytes of the whole array.
    nbytes = collective.bytes * members if collective.opcode == "all-gather" else collective.bytes
    kind = name.get(collective.opcode, collective.opcode)
    return CollectiveWork(kind, nbytes, members, collective.axes, collective.sent, collective.link)
