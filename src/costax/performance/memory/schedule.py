"""Schedules: the order in which a compiler runs the kernels of a region, which decides what is alive together.

XLA does not keep the order of the program. XLA for GPUs tries three orders (a list scheduler, a depth-first order, the
post-order of the program) and takes the one that needs least memory; XLA for CPUs takes a breadth-first order, so that
independent kernels can run at the same time, whatever memory that needs. Source: XLA, hlo_memory_scheduler.cc.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from costax.core.cost import Count
from costax.performance.memory.fusion import Fusion
from costax.program.regions import Region


@dataclass(slots=True)
class KernelGraph:
    """The kernels of a region and what each must wait for.

    kernels: numbers of the ops that end them, in program order. arguments: values that no kernel computes, in order.
    operands: by kernel, the kernels, and the arguments as -1 - argument, whose results it reads. users: by kernel or
    argument, its readers. reads, defines: by kernel, the buffers that it reads and computes. sizes: bytes of each
    buffer; 0 for what is allocated in any case. roots: the kernels of the results of the region, in their order.
    """

    kernels: list[int] = field(default_factory=list[int])
    arguments: list[int] = field(default_factory=list[int])
    operands: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    users: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    reads: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    defines: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    sizes: list[Count] = field(default_factory=list[Count])
    roots: list[int] = field(default_factory=list[int])


def kernel_graph(
    region: Region, fusion: Fusion, kernels: Sequence[int], sizes: list[Count], *, barriers: bool = False
) -> KernelGraph:
    """Return the graph of the kernels of a region.

    kernels: the numbers of the ops that end a kernel. An op that updates an array in place waits for the ops that read
    the array before it in the program, so that no copy is needed. barriers: recomputations wait for their barriers:
    XLA for GPUs removes those after it has made the schedule (gpu_compiler.cc), XLA for CPUs before (cpu_compiler.cc).
    """
    graph = KernelGraph(list(kernels), sizes=sizes)
    behind = _behind_barriers(region, fusion) if barriers else {}
    computing = {x: number for number in kernels for x in region.ops[number].outputs}
    graph.users = {number: [] for number in kernels}
    producer: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    for number, value in enumerate(region.values):
        if value.op < 0:
            graph.arguments.append(number)
            graph.users[-1 - number] = []
    for number in kernels:
        op, read = region.ops[number], fusion.reads[number]
        graph.reads[number] = read
        graph.defines[number] = tuple(x for x in op.outputs if x in fusion.buffers)
        waits = [producer.get(x, -1 - x) for x in read]
        if (op.traits.in_place or op.loop) and read:
            updated = [read[0]] if op.traits.in_place else [op.inputs[i] for i in op.carried]
            waits += [r for x in updated if x is not None for r in readers.get(x, ())]
        for barrier in behind.get(number, ()):
            waits += [computing[x] for x in barrier if x in computing]
        graph.operands[number] = list(dict.fromkeys(waits))
        for before in graph.operands[number]:
            graph.users[before].append(number)
        for x in read:
            readers.setdefault(x, []).append(number)
        producer.update(dict.fromkeys(op.outputs, number))
    graph.roots = list(dict.fromkeys(producer[x] for x in region.outputs if x in producer))
    return graph


def _behind_barriers(region: Region, fusion: Fusion) -> dict[int, list[tuple[int, ...]]]:
    """Return by op the barriers that it waits for, directly or through the ops that are fused into it."""
    by_op: dict[int, list[tuple[int, ...]]] = {}
    by_value: dict[int, list[tuple[int, ...]]] = {}
    for number, op in enumerate(region.ops):
        barriers = {id(op.after): op.after} if op.after else {}
        for x in op.inputs:
            barriers |= {id(barrier): barrier for barrier in by_value.get(x, ())} if x is not None else {}
        if barriers:
            by_op[number] = list(barriers.values())
            by_value |= {x: by_op[number] for x in op.outputs if x not in fusion.buffers}
    return by_op


def breadth_first(graph: KernelGraph) -> list[int]:
    """Return the kernels in the order in which their operands become ready, first come, first served.

    Example: nothing orders the recomputed loops of two checkpointed blocks, so both run before the backward pass of
    the first. Source: BFScheduler of hlo_memory_scheduler.cc.
    """
    pending = {number: len(operands) for number, operands in graph.operands.items()}
    ready = deque([-1 - x for x in graph.arguments] + [number for number in graph.kernels if not pending[number]])
    order: list[int] = []
    while ready:
        number = ready.popleft()
        if number >= 0:
            order.append(number)
        for user in graph.users[number]:
            pending[user] -= 1
            if not pending[user]:
                ready.append(user)
    return order


def list_order(graph: KernelGraph) -> list[int]:
    """Return the kernels, of those that are ready always the one that frees most bytes beyond those it allocates.

    Ties go to the kernel with more users. Source: ListScheduler of hlo_memory_scheduler.cc.
    """
    uses: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    for number in graph.kernels:
        for x in graph.reads[number]:
            uses[x] = uses.get(x, 0) + 1
            readers.setdefault(x, []).append(number)
    computed = {x for defined in graph.defines.values() for x in defined}

    def freed(number: int) -> Count:
        dying = sum(graph.sizes[x] for x in graph.reads[number] if uses[x] == 1 and x in computed)
        return dying - sum(graph.sizes[x] for x in graph.defines[number])

    pending = {number: sum(n >= 0 for n in operands) for number, operands in graph.operands.items()}
    # Entries of kernels whose priority has risen since stay in the queue and are passed over.
    current: dict[int, Count] = {}
    queue: list[tuple[Count, int, int]] = []

    def push(number: int) -> None:
        current[number] = freed(number)
        heapq.heappush(queue, (-current[number], -len(graph.users[number]), -number))

    for number in graph.kernels:
        if not pending[number]:
            push(number)
    order: list[int] = []
    while queue:
        priority, _, negative = heapq.heappop(queue)
        number = -negative
        if current.get(number) != -priority:
            continue
        del current[number]
        order.append(number)
        for x in graph.reads[number]:
            uses[x] -= 1
            if uses[x] == 1:
                for reader in readers[x]:
                    if reader in current:
                        push(reader)
        for user in graph.users[number]:
            pending[user] -= 1
            if not pending[user]:
                push(user)
    return order


def depth_first(graph: KernelGraph) -> list[int]:
    """Return the kernels after their operands, first the operand whose history has more users, then more bytes.

    Source: DFSMemoryScheduler of hlo_memory_scheduler.cc.
    """
    extra: dict[int, int] = {}
    total: dict[int, Count] = {}
    most, all_bytes = len(graph.kernels), sum(sum(graph.sizes[x] for x in d) for d in graph.defines.values())
    for number in graph.kernels:
        before = [n for n in graph.operands[number] if n >= 0]
        extra[number] = min(max(len(graph.users[number]) - 1, 0) + sum(extra[n] for n in before), most)
        size = sum(graph.sizes[x] for x in graph.defines[number]) + sum(total[n] for n in before)
        total[number] = min(size, all_bytes)
    return _post_order(graph, lambda number: (-extra[number], -total[number]))


def post_order(graph: KernelGraph) -> list[int]:
    """Return the kernels after their operands, the operands in their order."""
    return _post_order(graph, None)


def _post_order(graph: KernelGraph, key: Callable[[int], Any] | None) -> list[int]:
    order: list[int] = []
    done: set[int] = set()
    # Kernels without a result that is read run too; they come last.
    for root in (*graph.roots, *graph.kernels):
        stack = [(root, False)]
        while stack:
            number, operands_done = stack.pop()
            if operands_done:
                order.append(number)
                continue
            if number in done:
                continue
            done.add(number)
            stack.append((number, True))
            before = [n for n in graph.operands[number] if n >= 0]
            if key is not None:
                before.sort(key=key)
            stack += [(n, False) for n in reversed(before) if n not in done]
    return order
