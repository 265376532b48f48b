"""Invariants: what every iteration of a loop would compute alike, which XLA for CPUs computes once, before the loop."""

from __future__ import annotations

from dataclasses import replace

from costax.core.cost import Count
from costax.program.regions import Op, Region
from costax.rules.traits import Function


def without_invariants(region: Region) -> tuple[Region, Count]:
    """Return the body of a loop without the ops that read nothing of an iteration, and the bytes of their results.

    The results are arrays that live as long as the loop. An op that only moves or repeats elements stays where it is,
    unless what follows it is computed before the loop too. Source: XLA, while_loop_invariant_code_motion.cc.
    Example: a scan that adds `-p` of an outer p: the negated array is computed once, and is alive in each iteration.
    """
    fixed = [value.kind in ("outer", "constant") for value in region.values]
    invariant: list[bool] = []
    for op in region.ops:
        alike = not op.regions and not op.call and all(x is None or fixed[x] for x in op.inputs)
        invariant.append(alike and bool(op.outputs))
        for x in op.outputs:
            fixed[x] = alike
    # An op that is not worth it alone goes with one that reads its result.
    worth = [alike and not _moves(op) for alike, op in zip(invariant, region.ops, strict=True)]
    read = {x for op, moved in zip(region.ops, worth, strict=True) if moved for x in op.inputs}
    for number in range(len(region.ops) - 1, -1, -1):
        op = region.ops[number]
        if invariant[number] and not worth[number] and any(x in read for x in op.outputs):
            worth[number] = True
            read.update(op.inputs)
    if not any(worth):
        return region, 0
    values = [replace(value) for value in region.values]
    kept = [op for op, moved in zip(region.ops, worth, strict=True) if not moved]
    used = {x for op in kept for x in op.inputs} | set(region.outputs)
    before: Count = 0
    for op, moved in zip(region.ops, worth, strict=True):
        for x in op.outputs if moved else ():
            values[x].kind, values[x].op = "outer", -1
            before += values[x].nbytes if x in used else 0
    for number, op in enumerate(kept):
        for x in op.outputs:
            values[x].op = number
    return replace(region, values=values, ops=kept), before


def _moves(op: Op) -> bool:
    """Say whether an op computes nothing: it moves, repeats or numbers elements, and is no cast."""
    moves = op.traits.moves and op.traits.function is not Function.CONVERT
    return moves or op.traits.repeats or op.traits.permutes or not any(x is not None for x in op.inputs)
