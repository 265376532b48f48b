"""Communication: what the devices of a compiled program exchange, and along which axes of the mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import prod
from typing import TYPE_CHECKING

from costax.core.cost import BYTES_SENT, Cost, Count
from costax.core.equation import Equation, Operand
from costax.rules.lowered_names import COLLECTIVE_PRIMITIVES
from costax.rules.registry import REGISTRY

if TYPE_CHECKING:
    from costax.hlo.records import Instruction

Mesh = Mapping[str, int]
"""Axes by name, with their sizes, the slowest first."""


@dataclass(frozen=True, slots=True)
class Collective:
    """An exchange between devices, as each of them sees it.

    bytes: of the operands that a device brings, each time. sent: what it sends of them, where the algorithm is optimal
    in bandwidth (a ring); None where no rule says. groups: the devices that exchange with each other, empty for a
    permutation. axes: of the mesh, along which they do; empty where no axes fit. executed: how often.
    """

    name: str
    opcode: str
    bytes: Count
    sent: Count | None
    groups: tuple[tuple[int, ...], ...]
    axes: tuple[str, ...]
    executed: Count
    scope: str = ""
    source: str = ""


def kind(ins: Instruction) -> str:
    """Return the collective that an instruction is, or starts, without `-start`; "" for any other instruction."""
    opcode = ins.opcode.removesuffix("-start")
    return opcode if opcode in COLLECTIVE_PRIMITIVES else ""


def collective(
    ins: Instruction, meshes: Sequence[Mesh], executed: Count, scope: str = "", source: str = ""
) -> Collective:
    """Return what an instruction that `kind` names exchanges.

    meshes: those of the program; each has the program's devices in order.
    """
    devices = max((prod(mesh.values()) for mesh in meshes), default=0)
    pairs = ins.source_target_pairs
    everyone = tuple(range(devices))
    groups = () if pairs else ins.replica_groups or (everyone,)
    operands = [Operand(leaf.dims, leaf.dtype) for x in ins.operands for leaf in x.shape.arrays()]
    axes = next((found for mesh in meshes if (found := _axes(groups, pairs, mesh)) is not None), ())
    members = len(next(iter(groups), everyone))
    brought = sum(x.nbytes for x in operands)
    sent = _sent(kind(ins), operands, members, pairs)
    return Collective(ins.name, kind(ins), brought, sent, groups, axes, executed, scope, source)


def _sent(opcode: str, operands: Sequence[Operand], members: int, pairs: Sequence[tuple[int, int]]) -> Count | None:
    rule = REGISTRY.get(COLLECTIVE_PRIMITIVES[opcode])
    if rule is None or not members:
        return None
    params = {"axes": (), "axis_size": members, "perm": pairs}
    costs = [rule.function(Equation(rule.name, (operand,), (operand,), params)) for operand in operands]
    return sum(cost.of_kind(BYTES_SENT) for cost in costs if isinstance(cost, Cost))


def _axes(groups: Sequence[Sequence[int]], pairs: Sequence[tuple[int, int]], mesh: Mesh) -> tuple[str, ...] | None:
    """Return the axes along which these devices lie, None where no axes fit; those of size 1 are left out."""
    wide = [name for name, size in mesh.items() if size > 1]
    if pairs:
        crossed = {name for pair in pairs for name in _crossed(*pair, mesh)}
        return tuple(name for name in wide if name in crossed)
    wanted = {frozenset(group) for group in groups}
    for count in range(len(wide) + 1):
        for axes in combinations(wide, count):
            if wanted == _groups(mesh, axes):
                return axes
    return None


def _groups(mesh: Mesh, axes: Sequence[str]) -> set[frozenset[int]]:
    """Return the groups of devices that differ along these axes alone."""
    found: dict[tuple[int, ...], set[int]] = {}
    for device, place in enumerate(product(*(range(size) for size in mesh.values()))):
        fixed = tuple(i for name, i in zip(mesh, place, strict=True) if name not in axes)
        found.setdefault(fixed, set()).add(device)
    return {frozenset(group) for group in found.values()}


def _crossed(source: int, target: int, mesh: Mesh) -> set[str]:
    """Return the axes along which two devices differ."""
    crossed: set[str] = set()
    for name, size in reversed(list(mesh.items())):
        if source % size != target % size:
            crossed.add(name)
        source, target = source // size, target // size
    return crossed
