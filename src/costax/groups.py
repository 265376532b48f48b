"""Groups: the pieces of a program that run as one kernel, with their work and the bytes that they move.

With a Comparison at hand they are XLA's own fusions. Without one, the producer-consumer rule of `costax.memory` makes
them: elementwise work is done where its result is used, and what has a buffer ends a group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from costax.activations import CONTRACTIONS
from costax.cost import (
    ARITHMETIC,
    BYTES_READ,
    BYTES_WRITTEN,
    COMPARE,
    CONVERT,
    INTEGER,
    MAC,
    SELECT,
    TRANSCENDENTAL,
    Cost,
    Count,
)
from costax.memory.fusing import FUSED, Fusion, fused
from costax.memory.steps import Region, Step
from costax.tree import Scope

if TYPE_CHECKING:
    from costax.analysis import Analysis

MATMUL, VECTOR, SPECIAL, MEMORY, LINK = "matmul unit", "vector unit", "transcendental unit", "memory", "link"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A collective in a group: what it is, the bytes of the whole array that it gathers or reduces, and who with."""

    name: str
    nbytes: Count
    members: int
    axes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """What runs as one kernel.

    matmul, vector, special: operations by dtype, a multiply-accumulate as two, each time that it runs. read, written:
    bytes each time. shapes: (batch, m, n, k) of its contractions. times: how often it runs.
    """

    name: str
    scope: Scope
    direction: str
    matmul: Mapping[str, Count] = field(default_factory=dict[str, Count])
    vector: Mapping[str, Count] = field(default_factory=dict[str, Count])
    special: Mapping[str, Count] = field(default_factory=dict[str, Count])
    read: Count = 0
    written: Count = 0
    exchange: Exchange | None = None
    times: Count = 1
    kind: str = "loop"

    @property
    def flops(self) -> Count:
        """Operations each time: those of the matmul unit and of the vector unit."""
        return sum(self.matmul.values()) + sum(self.vector.values())

    @property
    def moved(self) -> Count:
        """Bytes each time."""
        return self.read + self.written


def of_analysis(analysis: Analysis) -> list[Group]:
    """Return the groups of an analysis by the producer-consumer rule, those in loops with how often they run."""
    return list(_Maker().groups(analysis.memory.region, (), "", 1))


class _Maker:
    def __init__(self) -> None:
        self._fusions: dict[int, Fusion] = {}

    def groups(self, region: Region, scope: Scope, direction: str, times: Count) -> Iterator[Group]:
        if id(region) not in self._fusions:
            self._fusions[id(region)] = fused(region)
        fusion = self._fusions[id(region)]
        members = _members(region, fusion)
        for number, step in enumerate(region.steps):
            place, way = scope + step.scope, step.direction or direction
            if step.regions:
                yield from self._inside(step, place, way, times)
            elif number in members:
                yield _group(region, fusion, members[number], number, place, way, times)

    def _inside(self, step: Step, scope: Scope, direction: str, times: Count) -> Iterator[Group]:
        # Of the branches of a choice that one runs which the analysis charges.
        for region, node in zip(step.regions, step.nodes, strict=True):
            if node.times:
                yield from self.groups(region, scope, direction, times * node.times)


def _members(region: Region, fusion: Fusion) -> dict[int, list[Step]]:
    """Return by the step that ends a group the steps in it; work that several groups need is done in the first."""
    ends: dict[int, list[Step]] = {}
    home: dict[int, int] = {}
    for number in range(len(region.steps) - 1, -1, -1):
        step = region.steps[number]
        if (step.name not in FUSED and not _is_fused(step, fusion)) or any(x in fusion.buffers for x in step.outputs):
            own = number
        else:
            own = min((home[x] for x in step.outputs if x in home), default=-1)
        if own < 0:
            continue
        ends.setdefault(own, []).append(step)
        for x in step.inputs:
            if x is not None and x not in fusion.buffers:
                home[x] = min(own, home.get(x, own))
    return ends


def _is_fused(step: Step, fusion: Fusion) -> bool:
    return not step.regions and not any(x in fusion.buffers for x in step.outputs)


def _group(
    region: Region, fusion: Fusion, steps: list[Step], end: int, scope: Scope, direction: str, times: Count
) -> Group:
    cost = Cost.sum(step.node.own for step in steps)
    last = region.steps[end]
    written = sum(region.values[x].nbytes for x in last.outputs if x in fusion.buffers)
    whole = sum(region.values[x].nbytes for x in fusion.reads[end])
    if last.name in _PARTIAL or any(step.name in _PARTIAL for step in steps):
        # Only a part of some operand is touched; the rules say which.
        parts = Cost.sum(step.node.own for step in steps if step.name in _PARTIAL)
        whole = min(whole, parts.of_kind(BYTES_READ) + sum(_small(region, x, written) for x in fusion.reads[end]))
        written = min(written, parts.of_kind(BYTES_WRITTEN)) if last.name in _PARTIAL else written
    names = list(dict.fromkeys(step.name for step in reversed(steps)))
    label = last.name if len(names) == 1 else f"{last.name} + {len(steps) - 1}"
    kind = "matmul" if last.name in CONTRACTIONS else "reduction" if last.name.startswith("reduce") else "loop"
    if last.name == "conv_general_dilated":
        kind = "convolution"
    return Group(
        label,
        scope,
        direction,
        *_work(cost),
        read=whole,
        written=written,
        exchange=_exchange(last),
        times=times,
        kind=kind,
    )


_PARTIAL: Final = frozenset(
    [
        "dynamic_slice",
        "dynamic_update_slice",
        "gather",
        "scatter",
        "scatter-add",
        "scatter-sub",
        "scatter-mul",
        "scatter-min",
        "scatter-max",
        "slice",
    ]
)


def _small(region: Region, x: int, written: Count) -> Count:
    return min(region.values[x].nbytes, written)


def _work(cost: Cost) -> tuple[dict[str, Count], dict[str, Count], dict[str, Count]]:
    matmul: dict[str, Count] = defaultdict(int)
    vector: dict[str, Count] = defaultdict(int)
    special: dict[str, Count] = defaultdict(int)
    for (kind, dtype), count in cost.items():
        if kind == MAC:
            matmul[dtype] += 2 * count
        elif kind == TRANSCENDENTAL:
            special[dtype] += count
        elif kind in _VECTOR:
            vector[dtype] += count
    return dict(matmul), dict(vector), dict(special)


_VECTOR: Final = (ARITHMETIC, INTEGER, COMPARE, SELECT, CONVERT)
_COLLECTIVES: Final[Mapping[str, str]] = {
    "psum": "all-reduce",
    "psum2": "all-reduce",
    "psum_invariant": "all-reduce",
    "pmax": "all-reduce",
    "pmin": "all-reduce",
    "all_gather": "all-gather",
    "all_gather_invariant": "all-gather",
    "all_gather_reduced": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "psum_scatter": "reduce-scatter",
    "unreduced_psum_scatter": "reduce-scatter",
    "all_to_all": "all-to-all",
    "ragged_all_to_all": "all-to-all",
    "ppermute": "permute",
    "pbroadcast": "permute",
}


def _exchange(step: Step) -> Exchange | None:
    name = _COLLECTIVES.get(step.name)
    if name is None:
        return None
    params = step.equation.params
    named: Any = params.get("axes", params.get("axis_name", ()))
    axes = tuple(str(axis) for axis in (named if isinstance(named, tuple | list) else (named,)))
    sizes = step.axis_sizes
    members = 1
    for axis in axes:
        members *= sizes.get(axis, 1)
    arrays = step.equation.outvars if name == "all-gather" else step.equation.invars
    from costax import _jax

    nbytes = sum(_jax.operand(v.aval).nbytes for v in arrays)
    return Exchange(name, nbytes, members, axes)
