"""Replication: work that several devices of a sharded program repeat, by layer, with its equations and mesh axes.

The module as jax lowered it has the whole arrays, the compiled module has the arrays of one device. For each equation
the instructions of the same kind are compared: the work that all devices execute, over the work of the program. A
product `(b, m, k) x (k, n)` that only `data=2` of a mesh `data=2, tensor=4` splits is computed by all four devices
along `tensor`: the ratio is 4. An equation of which the compiler left no instruction of the same kind is not compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

from costax.compare.stage_costs import AttributedCost, StageCost
from costax.core.cost import Count
from costax.hlo.collectives import Mesh
from costax.program.call_sites import CallSite

_CONTRACTION = "contraction"
# A ratio that is larger by less than this is that of arrays that do not divide evenly, or of a few scalars.
_NOTICEABLE = 1.01


@dataclass(frozen=True, slots=True)
class Repeated:
    """An equation, or a layer, and how often its work is computed.

    scope: the layer. equation: the name of the primitive, "" for a layer. source: the line of the equation. program:
    FLOPs and transcendentals of the program, all devices together, by XLA's rules. executed: those that all devices
    execute. axes: the mesh axes along which devices compute the same, if one set of axes has that many devices; of a
    layer, those that its repeated equations agree on. sizes: the sizes of these axes.
    """

    scope: str
    equation: str
    source: str
    program: Count
    executed: Count
    axes: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    @property
    def factor(self) -> float:
        """How many devices compute the same, on average: work that all devices execute over that of the program."""
        return self.executed / self.program if self.program else 1.0

    @property
    def repeated(self) -> bool:
        """Whether more than one device computes the same."""
        return self.factor >= _NOTICEABLE

    def __str__(self) -> str:
        """Return `replicated 4x over axis tensor: computed on 4 of 4 tensor shards`."""
        if not self.repeated:
            return "computed once"
        times = f"replicated {self.factor:.3g}x"
        if len(self.axes) != 1:
            return f"{times} over axes {', '.join(self.axes)}" if self.axes else times
        (axis,), (size,) = self.axes, self.sizes
        in_part = size % round(self.factor) if self.equation else size != round(self.factor)
        if in_part or not _is_whole(self.factor):
            # Some equations of the layer are computed once.
            return f"{times} on average, in parts over axis {axis}"
        return f"{times} over axis {axis}: computed on {round(self.factor)} of {size} {axis} shards"


@dataclass(frozen=True, slots=True)
class Replication:
    """What all devices execute, over the program's own count.

    devices: how many. program: FLOPs of the program by costax's count. executed: FLOPs that all devices execute.
    layers: each layer whose work could be compared, the most repeated work first. equations: those that are computed
    more than once, the most repeated work first. compared: the share of the program's work that could be compared.
    """

    devices: int
    program: Count
    executed: Count
    layers: Sequence[Repeated]
    equations: Sequence[Repeated]
    compared: float

    @property
    def ratio(self) -> float:
        """FLOPs that all devices execute over those of the program: 1 where nothing is repeated, added or removed."""
        return self.executed / self.program if self.program else 1.0


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
        if executed >= _NOTICEABLE * own:
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


def _is_whole(factor: float) -> bool:
    # Arrays that do not divide evenly make it a little larger.
    return abs(factor - round(factor)) <= 0.02 * factor


def _axes(factor: float, meshes: Sequence[Mesh]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the mesh axes with that many devices together, and their sizes; () if several sets of axes have.

    A single axis may be split in part: a factor of 2 along an axis of 4 devices.
    """
    if round(factor) <= 1 or not _is_whole(factor) or not meshes:
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
