"""Softmax kernels of XLA for GPUs: which arrays Triton writes because the kernel of a softmax cannot hold their users.

XLA compiles `x - max(x)` of rows, what follows elementwise, the sum of the row and what is done with that to one kernel
of Triton that holds whole rows. The kernel has one result, and nothing computes `x - max(x)` a second time. Source:
XLA, softmax_rewriter_triton.cc, and triton/support.cc for what such a kernel can hold.
"""

from __future__ import annotations

from costax.performance.memory.recomputation import reduces_last_axis
from costax.program.regions import Op, Region
from costax.rules.traits import Function


def softmax_results(region: Region, kept: set[int]) -> set[int]:
    """Return the values that a softmax kernel writes although elementwise users could compute them.

    kept: the values that have a buffer anyway.
    """
    users: list[list[int]] = [[] for _ in region.values]
    for number, op in enumerate(region.ops):
        for x in dict.fromkeys(op.inputs):
            if x is not None:
                users[x].append(number)
    # "held": computed by a softmax kernel beside its one result.
    held, results = set[int](), set[int]()
    for op in region.ops:
        inputs = [x for x in op.inputs if x is not None]
        new = [x for x in op.outputs if x not in kept]
        if op.traits.function is Function.SUBTRACT and new and _subtracts_maximum(region, op):
            (held if _is_closed(region, new[0], users) else results).add(new[0])
        elif _gathers(op) and inputs[0] in held:
            results.add(inputs[0])
        elif (op.traits.computed_where_used or reduces_last_axis(op)) and any(x in held for x in inputs):
            held.update(new)
    return results


def _gathers(op: Op) -> bool:
    """Say whether an op reads a part of an array whose place is computed, which no softmax kernel can hold.

    Example: `take_along_axis(log_softmax(logits), labels)` keeps all of `log_softmax(logits)`.
    """
    reads_indices = sum(x is not None for x in op.inputs) > 1
    return op.traits.partial and op.traits.computed_where_used and reads_indices and not op.inserted


def _subtracts_maximum(region: Region, op: Op) -> bool:
    """Say whether an op is `x - max(x)`, the maximum of each row, on the way to which only literals take part."""
    whole, x = op.inputs[0], op.inputs[1]
    while x is not None and region.values[x].op >= 0:
        producer = region.ops[region.values[x].op]
        inputs = [y for y in producer.inputs if y is not None]
        if reduces_last_axis(producer):
            return producer.traits.function is Function.MAXIMUM and inputs == [whole]
        if len(inputs) != 1 or not producer.traits.computed_where_used:
            return False
        x = inputs[0]
    return False


def _is_closed(region: Region, x: int, users: list[list[int]]) -> bool:
    """Say whether all that reads `x - max(x)` is one softmax: its exponential, the sum of that, and one result.

    Example: the gradient of `log_softmax` reads the exponential again, so that the kernel ends with `x - max(x)`.
    """
    exponential = next((n for n in users[x] if region.ops[n].traits.function is Function.EXPONENTIAL), None)
    if exponential is None:
        return True
    e = region.ops[exponential].outputs[0]
    others = [n for n in users[x] if n != exponential] + [n for n in users[e] if not reduces_last_axis(region.ops[n])]
    return len(set(others)) <= 1 and all(region.ops[n].traits.elementwise for n in others)
