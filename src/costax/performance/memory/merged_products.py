"""Merged products: products that share an operand become one, whose result is kept and sliced.

`x @ q`, `x @ k` and `x @ v` become `x @ concatenate(q, k, v)`: one array of all results, alive until the last slice of
it is read. Triton reads the parts of the concatenation where they are, if they are few and whole tiles; otherwise the
concatenation is an array too. Source: XLA, dot_merger.cc, triton_tiling_propagation.cc.
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from math import prod

from costax.core.equation import Operand
from costax.performance.memory.compiler import CompilerModel
from costax.performance.memory.dot_kind import free_extents
from costax.program.regions import Op, Region, Value
from costax.rules.traits import MOVEMENT, ContractionKind, Traits

_SLICE = MOVEMENT.but(partial=True)
_CONCATENATION = Traits(fuses=True, reads_once=True, operations=0.0)
# The kernel of the product reads the parts where they are, and computes none of them.
_PARTS_IN_PLACE = _CONCATENATION.but(partial=True)
# Source: XLA, triton_tiling_propagation.cc, kMinConcatFragmentSize, and triton_fusion_analysis.h,
# kMaxParameterPerDotOperand.
_WHOLE_TILE, _MOST_PARTS = 64, 4


def with_merged_products(region: Region, model: CompilerModel) -> Region:
    """Return the region with merged products; the region itself if nothing is merged.

    A product whose operands and result have more bytes than `largest_merged` is merged only with a smaller one.
    """
    groups = [group for group in _groups(region, model.largest_merged) if len(group) > 1]
    if not groups:
        return region
    merged = _with_groups(region, groups, model)
    if merged is not None:
        return merged
    # Two groups whose products depend on each other crosswise cannot both be merged.
    chosen: list[list[int]] = []
    for group in groups:
        attempt = _with_groups(region, [*chosen, group], model)
        if attempt is not None:
            chosen, merged = [*chosen, group], attempt
    return merged or region


def _with_groups(region: Region, groups: list[list[int]], model: CompilerModel) -> Region | None:
    """Return the region with some groups of products merged; None if they then depend on themselves."""
    values = [replace(value) for value in region.values]
    numbers = {number for group in groups for number in group}
    ops = [op for number, op in enumerate(region.ops) if number not in numbers]
    for group in groups:
        ops += _merged([region.ops[number] for number in group], values, model)
    order = _in_order(ops, values)
    return replace(region, values=values, ops=order) if len(order) == len(ops) else None


def _groups(region: Region, largest: int) -> list[list[int]]:
    """Return the numbers of the products that are merged, group by group."""
    by_operand: dict[object, list[int]] = {}
    for number, op in enumerate(region.ops):
        if op.traits.contraction is not ContractionKind.PRODUCT or None in op.inputs[:2] or op.inserted:
            continue
        for position in (0, 1):
            if _other_is_one_axis(op, position):
                dtypes = tuple(region.values[x].operand.dtype for x in (*op.inputs, *op.outputs) if x is not None)
                # Behind the barrier of a recomputation an operand is another one.
                dimensions = str(op.equation.params["dimension_numbers"])
                key = (op.inputs[position], position, dimensions, dtypes, id(op.after) if op.after else 0)
                by_operand.setdefault(key, []).append(number)
    taken: set[int] = set()
    groups: list[list[int]] = []
    for numbers in by_operand.values():
        candidates = [number for number in numbers if number not in taken]
        group: list[int] = []
        # What reads a product of the group, over others.
        reached: set[int] = set()
        smallest, scanned = 0, 0
        for number in candidates if len(candidates) > 1 else ():
            for op in region.ops[scanned:number] if group else ():
                if not reached.isdisjoint(op.inputs):
                    reached.update(op.outputs)
            scanned = number
            op, size = region.ops[number], _nbytes(region, number)
            if not reached.isdisjoint(op.inputs) or (group and min(size, smallest) > largest):
                continue
            smallest = min(size, smallest) if group else size
            group.append(number)
            reached.update(op.outputs)
        if len(group) > 1:
            taken.update(group)
            groups.append(group)
    return groups


def _other_is_one_axis(op: Op, position: int) -> bool:
    """Say whether the operand that is not shared has one free axis, along which it can be concatenated."""
    contracted, batched = op.equation.params["dimension_numbers"]
    other = 1 - position
    return len(op.equation.invars[other].aval.shape) == len(contracted[other]) + len(batched[other]) + 1


def _nbytes(region: Region, number: int) -> int:
    op = region.ops[number]
    return sum(int(region.values[x].nbytes) for x in (*op.inputs, *op.outputs) if x is not None)


def reads_parts_in_place(op: Op) -> bool:
    """Say whether an op is a concatenation that the kernel of a merged product reads part by part."""
    return op.inserted is _PARTS_IN_PLACE


def _merged(products: list[Op], values: list[Value], model: CompilerModel) -> list[Op]:
    """Return the ops of one product in place of several: a concatenation, the product, a slice for each result."""
    first = products[0]
    shared = 0 if all(op.inputs[0] == first.inputs[0] for op in products) else 1
    others = [x for op in products if (x := op.inputs[1 - shared]) is not None]
    together = _together(others, values)
    result = _together([op.outputs[0] for op in products], values)
    tiled = all(free_extents(op)[1 - shared] % _WHOLE_TILE == 0 for op in products)
    fits = len(products) <= _MOST_PARTS and values[together].operand.dtype in model.product_dtypes
    joined = _PARTS_IN_PLACE if tiled and fits else _CONCATENATION
    inputs = (first.inputs[0], together) if shared == 0 else (together, first.inputs[1])
    ops = [
        replace(first, name="concatenate", inputs=tuple(others), outputs=(together,), inserted=joined),
        replace(first, inputs=inputs, outputs=(result,)),
    ]
    return ops + [replace(op, name="slice", inputs=(result,), inserted=_SLICE) for op in products]


def _together(parts: list[int], values: list[Value]) -> int:
    """Add a value of the size of several, as one axis, and return its number."""
    first = values[parts[0]].operand
    size = sum(prod(map(int, values[x].operand.shape)) for x in parts)
    values.append(Value(Operand((size,), first.dtype), "computed", sum(values[x].nbytes for x in parts)))
    return len(values) - 1


def _in_order(ops: list[Op], values: list[Value]) -> list[Op]:
    """Return the ops with producers before users, otherwise in the order of the program; number their results.

    Operands of a barrier come before the ops behind it.
    """
    producer = {x: number for number, op in enumerate(ops) for x in op.outputs}
    users: list[list[int]] = [[] for _ in ops]
    pending = [0] * len(ops)
    for number, op in enumerate(ops):
        before = {producer[x] for x in (*op.inputs, *op.after) if x in producer}
        pending[number] = len(before)
        for earlier in before:
            users[earlier].append(number)
    # By place: the least old op number among the results of the op, which keeps the order of the program.
    key = [min((values[x].op for x in op.outputs if values[x].op >= 0), default=len(ops)) for op in ops]
    ready = [(key[n], n) for n in range(len(ops)) if not pending[n]]
    heapq.heapify(ready)
    order: list[Op] = []
    while ready:
        _, number = heapq.heappop(ready)
        for x in ops[number].outputs:
            values[x].op = len(order)
        order.append(ops[number])
        for user in users[number]:
            pending[user] -= 1
            if not pending[user]:
                heapq.heappush(ready, (key[user], user))
    return order
