"""Instruction fusion: which values get a buffer where a compiler fuses producers into consumers edge by edge.

XLA for CPUs decides for each edge of the graph by itself. A value that one consumer can fuse and another cannot is
recomputed in the first and has a buffer for the second. Source: XLA, instruction_fusion.cc and
cpu_instruction_fusion.cc.
"""

from __future__ import annotations

from costax.performance.memory import dot_kind
from costax.performance.memory.compiler import CompilerModel
from costax.performance.memory.fusion import Fusion
from costax.performance.memory.library_fusion import LibraryCalls
from costax.performance.memory.recomputation import CodeDuplication
from costax.performance.memory.simplifications import is_scatter
from costax.program.regions import Op, Region
from costax.rules.traits import ContractionKind, Function

# Source: cpu_instruction_fusion.cc, ShouldFuse.
_MOST_CONCATENATED = 8
_SMALLEST_ROW, _SMALLEST_CONCATENATION = 64, 2048
# `Traits.operations` of the functions that IsExpensive lists: exp, log, tanh, sqrt, pow ...
_EXPENSIVE_OPERATIONS = 20.0


def instruction_fused(region: Region, model: CompilerModel) -> Fusion:
    """Return which values have a buffer after each producer is fused into those consumers that can take it."""
    calls = LibraryCalls(region)
    edges = _fused_edges(region, calls)
    buffers = _buffers(region, edges, calls)
    duplicated = CodeDuplication(region, buffers, model).values_to_keep()
    buffers |= duplicated
    # By value: the buffers that a kernel reads which computes the value itself.
    sources: list[tuple[int, ...]] = [(x,) for x in range(len(region.values))]
    moved: list[frozenset[int]] = [frozenset() for _ in region.values]
    reads: list[tuple[int, ...]] = []
    overwritable: list[frozenset[int]] = []
    for number, op in enumerate(region.ops):
        read: dict[int, None] = {}
        shifted = set[int]()
        inputs = calls.inputs.get(number, op.inputs)
        called = number in calls.root
        for position, x in enumerate(inputs):
            if x is None:
                continue
            inside = (number, x) in edges and x not in duplicated
            read.update(dict.fromkeys(sources[x] if inside else (x,)))
            same_index = (
                (op.traits.elementwise and not called) or op.traits.overwrites or (op.traits.in_place and position == 0)
            )
            if not same_index:
                shifted.update(sources[x] if inside else (x,))
            elif inside:
                shifted |= moved[x]
        # A scalar constant is part of the code of the kernel.
        kept = tuple(s for s in read if region.values[s].kind != "constant" or region.values[s].nbytes > 16)
        reads.append(kept)
        overwritable.append(frozenset(kept) - shifted)
        for x in op.outputs:
            sources[x], moved[x] = kept, frozenset(shifted)
    return Fusion(buffers, reads, overwritable, limited=bool(duplicated))


def _buffers(region: Region, edges: set[tuple[int, int]], calls: LibraryCalls) -> set[int]:
    """Return the values that some consumer reads from a buffer, from the consumers backwards."""
    buffers = {x for x in region.outputs if x is not None}
    buffers |= {x for x, value in enumerate(region.values) if value.kind in ("argument", "carry", "outer")}
    fused = set[int]()
    for number in range(len(region.ops) - 1, -1, -1):
        op = region.ops[number]
        root = calls.root.get(number, -1)
        if root not in (-1, number):
            # The op is inside a library call.
            continue
        if root == number or not _fusible(op) or any(x in buffers for x in op.outputs):
            buffers.update(op.outputs)
        elif not any(x in fused for x in op.outputs):
            # Nothing uses the result.
            continue
        for x in calls.inputs.get(number, op.inputs):
            if x is not None and (number, x) in edges:
                fused.add(x)
            elif x is not None and (region.values[x].kind != "constant" or region.values[x].nbytes > 16):
                buffers.add(x)
    return buffers


def _fused_edges(region: Region, calls: LibraryCalls) -> set[tuple[int, int]]:
    """Return the pairs (op, operand) where the op computes the operand itself."""
    users: list[list[int]] = [[] for _ in region.values]
    for number, op in enumerate(region.ops):
        for x in dict.fromkeys(op.inputs):
            if x is not None:
                users[x].append(number)
    edges: set[tuple[int, int]] = set()
    # By op: whether some kernel evaluates an element of its result more than once.
    reused = [False] * len(region.ops)
    for number in range(len(region.ops) - 1, -1, -1):
        op = region.ops[number]
        for x in dict.fromkeys(op.inputs):
            if x is None or number in calls.root or not _may_fuse(region, op, x):
                continue
            producer = region.values[x].op
            if producer in calls.root:
                continue
            reuses = reused[number] or _reuses(region, op, x)
            if not (reuses and _expensive(region.ops[producer])):
                edges.add((number, x))
    forbidden = {
        x
        for op in region.ops
        for x in op.outputs
        if len(users[x]) > 1 and _not_to_duplicate(region, op, x, users, edges)
    }
    edges = {(number, x) for number, x in edges if x not in forbidden}
    # Again from the consumers backwards: what is evaluated more than once, and in how many kernels, depends on where
    # the kernels end. By op: the kernels that compute it, each as the number of its last op.
    kernels: list[frozenset[int]] = [frozenset()] * len(region.ops)
    results = set(region.outputs)
    for number in range(len(region.ops) - 1, -1, -1):
        op = region.ops[number]
        computing = frozenset[int]()
        for x in op.outputs:
            readers = users[x]
            inside = [kernels[user] for user in readers if (user, x) in edges]
            computing = computing.union(*inside)
            if len(inside) < len(readers) or x in results or not inside:
                computing |= {number}
            if len(computing) > 1 and _expensive(op):
                # An expensive op is not computed twice. Source: instruction_fusion.cc, ShouldFuse.
                edges.difference_update([(user, x) for user in readers])
                computing = frozenset({number})
        kernels[number] = computing
        for x in dict.fromkeys(op.inputs):
            if x is None or (number, x) not in edges:
                continue
            producer = region.values[x].op
            reuses = reused[number] or _reuses(region, op, x)
            if reuses and _expensive(region.ops[producer]):
                edges.discard((number, x))
            else:
                reused[producer] |= reuses
    return edges


def _may_fuse(region: Region, op: Op, x: int) -> bool:
    value = region.values[x]
    if value.kind != "computed" or value.op < 0:
        return False
    producer = region.ops[value.op]
    consumes = _fusible(op) or (op.traits.in_place and not is_scatter(op))
    return consumes and _fusible(producer) and not _wide(producer) and not _wide(op)


def _fusible(op: Op) -> bool:
    """Say whether an op can be a part of a loop fusion. Source: CanBeLoopFused.

    An outer product sums nothing, so XLA turns it into a multiplication.
    """
    outer = op.traits.contraction is ContractionKind.PRODUCT and dot_kind.depth(op) == 1
    reduces = op.traits.reduction and not op.traits.windowed
    return not op.regions and (op.traits.computed_where_used or reduces or outer)


def _wide(op: Op) -> bool:
    """Say whether an op concatenates many arrays, or rows along the last axis, which a plain copy does faster."""
    if not op.traits.fuses or not op.traits.reads_once or op.traits.reduction or len(op.equation.invars) < 2:
        return False
    aval = op.equation.outvars[0].aval
    rank = len(aval.shape)
    if len(op.inputs) > _MOST_CONCATENATED:
        return True
    row = aval.shape[-1] * aval.dtype.itemsize if rank > 1 else 0
    last = op.equation.params.get("dimension") == rank - 1
    return last and row >= _SMALLEST_ROW and aval.size * aval.dtype.itemsize >= _SMALLEST_CONCATENATION


def _expensive(op: Op) -> bool:
    """Say whether an op is too much arithmetic to repeat. Source: IsExpensive."""
    traits = op.traits
    if traits.operations >= _EXPENSIVE_OPERATIONS or traits.reduction or (traits.partial and len(op.inputs) == 2):
        return True
    return traits.function in (Function.DIVIDE, Function.SQUARE_ROOT, Function.RECIPROCAL_ROOT, Function.POWER)


def _reuses(region: Region, op: Op, x: int) -> bool:
    """Say whether an op reads an element of an operand more than once. Source: ReusesOperandElements."""
    if op.traits.elementwise or op.traits.reduction or not op.outputs:
        return False
    if op.traits.repeats or (op.traits.partial and len(op.inputs) == 2 and op.inputs[0] == x):
        return region.values[op.outputs[0]].operand.size > region.values[x].operand.size
    return False


def _not_to_duplicate(region: Region, op: Op, x: int, users: list[list[int]], edges: set[tuple[int, int]]) -> bool:
    """Say whether a value is computed once although some consumer could compute it itself.

    That is so if computing it reads more elements than it has, from several arrays, and not all consumers can take it.
    A product takes an operand whose axes it merges: the kernel then ends with the reshape. Source:
    ComputeGloballyUnfusible.
    """
    values = region.values
    rank = len(values[x].operand.shape)
    inputs = [y for y in dict.fromkeys(op.inputs) if y is not None]
    wide = [y for y in inputs if _true_rank(values[y].operand.shape) >= rank and not _is_broadcast(region, y)]
    if len(wide) <= 1 or sum(values[y].operand.size for y in inputs) <= values[x].operand.size:
        return False
    if any((user, x) not in edges and not _merges_axes(region.ops[user], x) for user in users[x]):
        return True
    # On all paths: what lies between the value and a consumer must be fused too.
    # By value: whether everything between it and x is fused.
    status = {x: True}
    pending, last = set(users[x]), max(users[x])
    for number in range(values[x].op + 1, last + 1):
        between = region.ops[number]
        reached = [y for y in between.inputs if y is not None and y in status]
        if not reached:
            continue
        whole = all(status[y] and (number, y) in edges for y in reached)
        if number in pending and not whole:
            return True
        status.update(dict.fromkeys(between.outputs, whole))
    return False


def _merges_axes(op: Op, x: int) -> bool:
    """Say whether a product reads an operand through a reshape, which makes several of its axes one."""
    if op.traits.contraction is not ContractionKind.PRODUCT:
        return False
    contracted, batched = op.equation.params["dimension_numbers"]
    for y, var, ours, shared in zip(op.inputs, op.equation.invars, contracted, batched, strict=True):
        if x == y and (len(ours) > 1 or len(var.aval.shape) - len(ours) - len(shared) > 1):
            return True
    return False


def _true_rank(shape: tuple[object, ...]) -> int:
    return sum(extent != 1 for extent in shape)


def _is_broadcast(region: Region, y: int) -> bool:
    value = region.values[y]
    return value.op >= 0 and region.ops[value.op].traits.repeats
