"""Simplifications: equations that XLA's algebraic simplifier and its layout assignment take away before fusion."""

from __future__ import annotations

from dataclasses import replace

from costax.program.regions import Op, Region
from costax.rules.traits import MOVEMENT, ContractionKind, Function


def simplified(region: Region) -> Region:
    """Return the region without sums of scattered gradients, written zeros and transposed products.

    `a + scatter_add(zeros, i, u)` is `scatter_add(a, i, u)`, if nothing else reads the scatter, so that the gradients
    of several lookups share one array. Source: XLA, algebraic_simplifier.cc, HandleAdd, which adds `a` to any first
    operand; for other arrays than zeros that saves nothing. It joins two scatters of one shape to one, or one after
    the other, which takes the same memory.

    `dynamic_update_slice(zeros, u, i)` is computed where it is used, each element being u or zero: the gradient of a
    slice is no array. Source: XLA, gpu_fusible.cc and cpu_instruction_fusion.cc, for which it is an ordinary fusible
    op, and in-place only where its operand is an array.

    A product that is transposed is a product with the operands exchanged. Source: algebraic_simplifier.cc,
    HandleTranspose.
    """
    zeros = scalar_broadcasts(region)
    users: list[list[int]] = [[] for _ in region.values]
    for number, op in enumerate(region.ops):
        for x in (*op.inputs, *op.after):
            if x is not None:
                users[x].append(number)
    results = set(region.outputs)
    ops: list[Op | None] = list(region.ops)
    # By op: its place in the new region.
    places = [float(number) for number in range(len(ops))]
    values = None
    for number, op in enumerate(region.ops):
        if op.traits.in_place and op.inputs[0] in zeros:
            x = op.outputs[0]
            if not is_scatter(op):
                ops[number] = replace(op, inputs=op.inputs[1:], inserted=MOVEMENT)
                continue
            user = users[x][0] if len(users[x]) == 1 and x not in results else -1
            if user < 0 or not _adds(region.ops[user]) or op.traits.function is not None:
                continue
            addition = ops[user]
            if addition is None or not _adds(addition) or len(addition.inputs) != 2:
                continue
            other = next((y for y in addition.inputs if y != x), None)
            if other is not None:
                ops[number] = None
                ops[user] = replace(op, inputs=(other, *op.inputs[1:]), outputs=addition.outputs)
        elif op.traits.permutes and not op.inserted and op.inputs[0] is not None:
            x = op.inputs[0]
            producer = region.values[x].op
            product = ops[producer] if producer >= 0 else None
            single = len(users[x]) == 1 and x not in results
            if product and single and product.traits.contraction is ContractionKind.PRODUCT and swaps_last_axes(op):
                # XLA makes a new product, the last reader of its operands, which its schedules see in that order.
                ops[producer], ops[number] = None, replace(product, outputs=op.outputs)
                places[number] = min((reader - 0.5 for reader in users[op.outputs[0]]), default=float(len(ops)))
                values = values or [replace(value) for value in region.values]
    kept = [op for _, op in sorted(zip(places, ops, strict=True), key=lambda pair: pair[0]) if op is not None]
    values = values or [replace(value) for value in region.values]
    for number, op in enumerate(kept):
        for x in op.outputs:
            values[x].op = number
    return replace(region, values=values, ops=kept)


def scalar_broadcasts(region: Region) -> set[int]:
    """Return the values that repeat one number, as arrays of zeros do."""
    return {
        x
        for op in region.ops
        if op.traits.repeats and all(y is None or region.values[y].operand.size == 1 for y in op.inputs)
        for x in op.outputs
    }


def is_scatter(op: Op) -> bool:
    """Say whether an op that updates an array in place takes its indices from an array."""
    return "dimension_numbers" in op.equation.params


def _adds(op: Op) -> bool:
    return op.traits.elementwise and op.traits.function is Function.ADD and not op.inserted


def swaps_last_axes(op: Op) -> bool:
    """Say whether a transpose exchanges the last two axes and leaves the others."""
    order = tuple(op.equation.params.get("permutation", ()))
    rank = len(order)
    return rank >= 2 and order == (*range(rank - 2), rank - 1, rank - 2)
