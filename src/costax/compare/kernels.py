"""XLA's own fusions as kernels: one for each instruction that runs as a kernel, of a compiled ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Final

from costax.compare.stage_costs import AttributedCost
from costax.hlo.collectives import Collective
from costax.hlo.records import Computation, Instruction
from costax.performance.kernels import CollectiveWork, Contraction, Kernel

if TYPE_CHECKING:
    from costax.compare.stage_costs import StageCost

# Instructions that hold others, or only pass on what they are given.
_BOOKKEEPING: Final = frozenset(
    {"while", "conditional", "call", "tuple", "get-tuple-element", "parameter", "bitcast", "constant", "after-all"}
)


def of_compiled(ledger: StageCost) -> list[Kernel]:
    """Return the kernels of a compiled program, loops as often as they run."""
    owners = _owners(ledger)
    found: dict[tuple[int, int], list[AttributedCost]] = defaultdict(list)
    for charge in ledger.charges:
        owner = owners.get(charge.computation.id, charge.instruction)
        found[id(owner), charge.executed].append(charge)
    collectives = {collective.name: collective for collective in ledger.collectives}
    kernels: list[Kernel] = []
    homes: list[Computation | None] = []
    inside = {x.id: c for c in ledger.replay.module.computations.values() for x in c.instructions}
    entry = ledger.replay.module.entry
    for charges in found.values():
        owner = owners.get(charges[0].computation.id, charges[0].instruction)
        if owner.opcode in _BOOKKEEPING:
            continue
        calls = max(1, sum(charge.instruction is owner for charge in charges))
        kernels.append(_kernel(owner, charges, calls, collectives))
        home = inside.get(owner.id)
        homes.append(home if home is not entry and charges[0].executed > 1 else None)
    return _in_loops(kernels, homes)


def _in_loops(kernels: list[Kernel], homes: list[Computation | None]) -> list[Kernel]:
    """Say of the kernels of each loop how much is used until its next step."""
    sums: dict[int, int] = defaultdict(int)
    for kernel, home in zip(kernels, homes, strict=True):
        if home is not None:
            sums[home.id] += kernel.moved
    return [
        kernel if home is None else replace(kernel, reuse_distance=sums[home.id])
        for kernel, home in zip(kernels, homes, strict=True)
    ]


def _owners(ledger: StageCost) -> dict[int, Instruction]:
    """Return for each computation that lies inside a fusion the outermost fusion."""
    direct: dict[int, tuple[Instruction, Computation]] = {}
    for computation in ledger.replay.module.computations.values():
        for ins in computation.instructions:
            if ins.opcode == "fusion":
                direct.update({callee.id: (ins, computation) for callee in ins.called})
    owners: dict[int, Instruction] = {}
    for number, (ins, computation) in direct.items():
        while computation.id in direct:
            ins, computation = direct[computation.id]
        owners[number] = ins
    return owners


def _kernel(
    owner: Instruction, charges: list[AttributedCost], calls: int, collectives: Mapping[str, Collective]
) -> Kernel:
    contractions: dict[int, Contraction] = {}
    vector: dict[str, int] = defaultdict(int)
    transcendental: dict[str, int] = defaultdict(int)
    for charge in charges:
        ins, work = charge.instruction, charge.true
        if _contracts(ins, work.flops):
            contractions[id(ins)] = _contraction(ins, work.flops, fused=ins is not owner)
        elif work.flops > 0:
            vector[_dtype(ins)] += work.flops
        if work.transcendentals > 0:
            transcendental[_dtype(ins)] += work.transcendentals
    # Of what a gather reads in a fusion only the rows that it takes are touched.
    inside = owner.called[0].instructions if owner.opcode == "fusion" and owner.called else ()
    spared = sum(max(_bytes(x.operand(0)) - _bytes(x), 0) for x in inside if x.opcode == "gather")
    moved = sum(charge.true.bytes for charge in charges if charge.true.bytes > 0)
    moved = max(moved - spared * calls, 0)
    place = next((c.place for c in sorted(charges, key=lambda c: -c.work) if c.place is not None), None)
    collective = collectives.get(owner.name)
    return Kernel(
        owner.name if owner.opcode != "custom-call" else owner.custom_call_target,
        place.scope if place is not None else (),
        place.node.direction if place is not None else "",
        tuple(contractions.values()),
        {dtype: count // calls for dtype, count in vector.items()},
        {dtype: count // calls for dtype, count in transcendental.items()},
        read=moved // calls,
        collective=_collective_work(collective),
        times=charges[0].executed * calls,
        transposes=_transposes(owner) or any(map(_transposes, inside)),
        uncached_bytes=min(moved // calls, sum(_bytes(x) for x in dict.fromkeys(owner.operands) if _is_argument(x))),
    )


def _contracts(ins: Instruction, flops: int) -> bool:
    return ins.opcode in ("dot", "convolution", "ragged-dot") or (ins.opcode == "custom-call" and flops > 0)


def _contraction(ins: Instruction, flops: int, *, fused: bool) -> Contraction:
    """Return what is known of a contraction; a convolution that stands alone XLA leaves to a loop of its own."""
    dtype = _dtype(ins)
    operand = _dtype(ins.operands[0]) if ins.operands else dtype
    both = operand if operand == dtype else f"{operand}*{operand}->{dtype}"
    if ins.opcode == "convolution":
        kind = "depthwise" if ins.feature_group_count > 1 else "convolution" if fused else "plain convolution"
        # XLA may have the image, which is tiny here, and the kernel change places.
        filter_bytes = max(_bytes(x) for x in ins.operands) if kind == "plain convolution" else _bytes(ins.operand(1))
        return Contraction(kind, both, flops, filter_bytes=filter_bytes)
    kind = "convolution" if "conv" in ins.custom_call_target.lower() else "matmul"
    return Contraction(kind, both, flops, rows=_rows(ins))


def _transposes(ins: Instruction) -> bool:
    """Say whether an instruction writes its operand's elements in another order than they lie in memory."""
    if ins.opcode not in ("copy", "transpose"):
        return False
    before, after = ins.operand(0).shape, ins.shape
    if before.layout is None or after.layout is None:
        return False
    permutation = ins.dimensions if ins.opcode == "transpose" else tuple(range(len(after.dims)))
    ours = [permutation[axis] for axis in after.layout.minor_to_major if after.dims[axis] > 1]
    return ours != [axis for axis in before.layout.minor_to_major if before.dims[axis] > 1]


def _is_argument(ins: Instruction) -> bool:
    """Say whether an operand is an argument of the computation, perhaps under another shape."""
    while ins.opcode in ("bitcast", "reshape", "get-tuple-element") and ins.operands:
        ins = ins.operands[0]
    return ins.opcode == "parameter"


def _rows(ins: Instruction) -> int:
    """Return the smaller free extent of a product."""
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


def _collective_work(found: Collective | None) -> CollectiveWork | None:
    if found is None:
        return None
    name = {"collective-permute": "permute", "collective-broadcast": "permute", "ragged-all-to-all": "all-to-all"}
    members = len(next(iter(found.groups), ())) or 2
    # An all-gather brings its part; the formulas take the whole.
    nbytes = found.bytes * members if found.opcode == "all-gather" else found.bytes
    return CollectiveWork(name.get(found.opcode, found.opcode), nbytes, members, found.axes)
