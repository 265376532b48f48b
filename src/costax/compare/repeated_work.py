"""Replication: work that several devices of a sharded program repeat, by layer, with its equations and mesh axes.

The module as jax lowered it has the whole arrays, the compiled module has the arrays of one device. For each equation
the instructions of the same kind are compared: the work that all devices execute, over the work of the program. A
product `(b, m, k) x (k, n)` that only `data=2` of a mesh `data=2, tensor=4` splits is computed by all four devices
along `tensor`: the ratio is 4. An equation of which the compiler left no instruction of the same kind is not compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import prod

from costax.compare.replication import NOTICEABLE, Repeated, Replication, is_whole
from costax.compare.stage_costs import AttributedCost, StageCost
from costax.core.cost import Count
from costax.hlo.collectives import Mesh
from costax.program.call_sites import CallSite

_CONTRACTION = "contraction"


def replication(
    lowered: StageCost, compiled: StageCost, program: Count, sources: Mapping[CallSite, str]
) -> Replication:
    """Return the replication of a sharded program.

    lowered, compiled: the stages before and after partitioning, of which `compiled` is that of one device. program: the
    FLOPs of the program by costax's count. sources: the line of each call site.
    """
    devices = compiled.devices
    before, after = _by_call_site(lowered), _by_call_site(compiled)
    compared: dict[CallSite, tuple[Count, Count]] = {}
    whole: Count = 0
    for site, kinds in before.items():
        # In a `shard_map` the lowered module has the arrays of one device already.
        whole += site.devices * sum(sum(works) for works in kinds.values())
        same = [kind for kind in kinds if kind in after.get(site, {})]
        own = site.devices * sum(sum(kinds[kind]) for kind in same)
        if own:
            each = sum(_of_one_device(kind, kinds[kind], after[site][kind], own, devices) for kind in same)
            compared[site] = own, devices * each
    layers: dict[str, list[CallSite]] = defaultdict(list)
    equations: dict[tuple[str, str, str], list[CallSite]] = defaultdict(list)
    for site, (own, executed) in compared.items():
        layers["/".join(site.scope)].append(site)
        if executed >= NOTICEABLE * own:
            equations["/".join(site.scope), site.primitive, sources.get(site, "")].append(site)

    def work(sites: Sequence[CallSite]) -> tuple[Count, Count]:
        return sum(compared[site][0] for site in sites), sum(compared[site][1] for site in sites)

    repeated: list[Repeated] = []
    axes_of: dict[str, set[tuple[tuple[str, ...], tuple[int, ...]]]] = defaultdict(set)
    for key, sites in equations.items():
        own, executed = work(sites)
        axes = _axes(executed / own, compiled.meshes)
        repeated.append(Repeated(*key, own, executed, *axes))
        axes_of[key[0]].add(axes)
    by_layer: list[Repeated] = []
    for scope, sites in layers.items():
        axes = axes_of[scope].pop() if len(axes_of[scope]) == 1 else ((), ())
        by_layer.append(Repeated(scope, "", "", *work(sites), *axes))
    return Replication(
        devices,
        program,
        devices * compiled.executed.flops,
        tuple(sorted(by_layer, key=_excess)),
        tuple(sorted(repeated, key=_excess)),
        sum(own for own, _ in compared.values()) / whole if whole else 1.0,
    )


def _excess(repeated: Repeated) -> Count:
    return repeated.program - repeated.executed


def _by_call_site(stage: StageCost) -> dict[CallSite, dict[str, list[Count]]]:
    """Return the work of the instructions of each call site, by kind: what each does in all of its runs."""
    works: dict[CallSite, dict[str, list[Count]]] = defaultdict(lambda: defaultdict(list))
    for cost in stage.instruction_costs:
        work = cost.executed * (cost.actual.flops + cost.actual.transcendentals)
        if cost.call_site is not None and work > 0:
            works[cost.call_site][_kind(cost)].append(work)
    return works


def _kind(cost: AttributedCost) -> str:
    """Return the kind of an instruction: compilers write a product as a dot, a convolution or a call of a library."""
    opcode = cost.instruction.opcode
    return _CONTRACTION if opcode in ("dot", "convolution", "ragged-dot", "custom-call") else opcode


def _of_one_device(kind: str, before: list[Count], after: list[Count], program: Count, devices: int) -> Count:
    """Return the work of one device in the instructions of a kind.

    Compilers copy cheap instructions into several fusions, where one device repeats its own work. So no more of them
    count than the program has, unless they are the parts of one that the compiler split into steps.
    """
    every = sum(after)
    if kind == _CONTRACTION:
        return every
    largest = sum(sorted(after, reverse=True)[: len(before)])
    return largest if devices * largest >= program else min(every, -(-program // devices))


def _axes(factor: float, meshes: Sequence[Mesh]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the mesh axes with that many devices together, and their sizes; () if several sets of axes have.

    A single axis may be split in part: a factor of 2 along an axis of 4 devices.
    """
    if round(factor) <= 1 or not is_whole(factor) or not meshes:
        return (), ()
    mesh = {name: size for name, size in meshes[0].items() if size > 1}
    sets = [axes for n in range(1, len(mesh) + 1) for axes in combinations(mesh, n)]
    exact = [axes for axes in sets if prod(mesh[axis] for axis in axes) == round(factor)]
    partly = [(axis,) for axis in mesh if mesh[axis] % round(factor) == 0]
    for candidates in (exact, partly):
        if candidates:
            found = candidates[0] if len(candidates) == 1 else ()
            return found, tuple(mesh[axis] for axis in found)
    return (), ()
