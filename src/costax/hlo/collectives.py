"""Collectives of a compiled program: the bytes that devices send, and the mesh axes along which they communicate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import combinations, product
from math import prod
from typing import TYPE_CHECKING, Final, TypeVar

from costax.core.cost import BYTES_SENT, Cost, Count
from costax.core.equation import Equation, Operand
from costax.rules.lowered_names import COLLECTIVE_PRIMITIVES
from costax.rules.registry import REGISTRY

if TYPE_CHECKING:
    from costax.hlo.records import Computation, Instruction

_Axis = TypeVar("_Axis")
SEND: Final = "send"
ASYNC_START: Final = "AsyncCollectiveStart"
"""The target of the call by which libtpu marks a fusion that starts a collective."""
# Its marks of the fusions that wait for it and that compute meanwhile.
_DONE: Final = "AsyncCollectiveDone"
_MEANWHILE: Final = "async_collective_fusion"

Mesh = Mapping[str, int]
"""The sizes of the mesh axes by name, the slowest-varying axis first."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a collective of several layers does for one of them: bytes of operands, and bytes that the device sends."""

    scope: str
    direction: str
    bytes: Count
    sent: Count | None


@dataclass(frozen=True, slots=True)
class Collective:
    """A collective instruction, from the view of one device.

    bytes: the operands on one device, for one execution. sent: the bytes that the device sends, if the algorithm is
    optimal in bandwidth (a ring); None where no rule says. groups: the devices that communicate with each other; empty
    for a permutation. axes: the mesh axes along which the groups lie; empty where no axes fit. executed: the number of
    executions. direction: "forward", "backward", "recompute" or "update"; "" if no equation says it. link: over which
    links the bytes go: "ICI", "NVLink", "network", or two of these; "" if the machine is not known. between: the names
    of the instructions that XLA's schedule has between the start and the end of an asynchronous collective. shares: the
    parts of a collective that XLA combined from those of several layers, which add up to it; () for a single layer.
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
    direction: str = ""
    link: str = ""
    between: tuple[str, ...] = ()
    shares: tuple[Share, ...] = ()

    def shared(self, parts: Sequence[tuple[Count, tuple[str, str]]]) -> Collective:
        """Return the collective with the share of each layer.

        parts: the bytes of each part, and the scope and the direction that it belongs to; () for a single part.
        """
        of_layers: dict[tuple[str, str], Count] = {}
        for size, layer in parts:
            of_layers[layer] = of_layers.get(layer, 0) + size
        if len(of_layers) < 2:
            return replace(self, scope=parts[0][1][0], direction=parts[0][1][1]) if parts else self
        shares: list[Share] = []
        whole, before = max(sum(of_layers.values()), 1), 0
        for layer, size in of_layers.items():
            # The differences of rounded sums add up to the whole.
            sent = None if self.sent is None else self.sent * (before + size) // whole - self.sent * before // whole
            shares.append(Share(*layer, size, sent))
            before += size
        return replace(self, shares=tuple(shares))


def by_layer(whole: Collective) -> Sequence[Collective]:
    """Return the parts of a collective, one for each layer; they add up to it."""
    parts = [replace(whole, **{x.name: getattr(share, x.name) for x in fields(Share)}) for share in whole.shares]
    return [replace(part, shares=()) for part in parts] or (whole,)


def kind(ins: Instruction) -> str:
    """Return the opcode of a collective, without `-start`; "" for any other instruction.

    A `send` counts too: compilers write what slices of TPUs send to each other as `send` and `recv`.
    """
    opcode = ins.opcode.removesuffix("-start")
    return opcode if opcode in COLLECTIVE_PRIMITIVES or opcode == SEND else ""


def sent_as(ins: Instruction, computation: Computation) -> str:
    """Return what an instruction of a computation sends as: `kind(ins)`, but for what TPUs have in fusions.

    A collective that runs beside others stands in three fusions: that which starts it (`AsyncCollectiveStart`), one
    that computes meanwhile, and that which waits for it; the first counts. Of an all-reduce in a fusion of which only
    slices leave it, each device keeps its slice: it is a reduce-scatter.
    """
    opcode = kind(ins)
    if not opcode or not computation.is_fusion:
        return opcode
    users = [x for user in ins.users for x in (user.users if user.opcode == "get-tuple-element" else (user,))]
    if opcode == "all-reduce" and users and all(x.opcode == "dynamic-slice" for x in users):
        return "reduce-scatter"
    waits = any(x.custom_call_target == _DONE for x in users if x.opcode == "custom-call")
    return "" if waits or computation.name.startswith(_MEANWHILE) else opcode


def collective(
    ins: Instruction, meshes: Sequence[Mesh], executed: Count, scope: str = "", source: str = "", opcode: str = ""
) -> Collective:
    """Return the collective of an instruction; `kind(ins)` must not be "".

    meshes: the meshes of the program; each has all devices of the program, in order. opcode: what it sends as.
    """
    opcode = opcode or kind(ins)
    devices = max((prod(mesh.values()) for mesh in meshes), default=0)
    pairs = ins.source_target_pairs
    everyone = tuple(range(devices))
    groups = () if pairs or ins.opcode == SEND else ins.replica_groups or (everyone,)
    operands = [leaf for x in ins.operands for leaf in _arrays(x)]
    found = (_axes(groups, pairs, mesh) for mesh in meshes) if groups or pairs else iter(())
    axes = next((mesh_axes for mesh_axes in found if mesh_axes is not None), ())
    members = len(next(iter(groups), everyone))
    operand_bytes = sum(x.nbytes for x in operands)
    sent = _sent(opcode, operands, members, pairs)
    return Collective(ins.name, opcode, operand_bytes, sent, groups, axes, executed, scope, source)


def bytes_of(ins: Instruction) -> Count:
    """Return the bytes of the arrays of an instruction."""
    return sum(x.nbytes for x in _arrays(ins))


def _arrays(ins: Instruction) -> list[Operand]:
    return [Operand(leaf.dims, leaf.dtype) for leaf in ins.shape.arrays()]


def _sent(opcode: str, operands: Sequence[Operand], members: int, pairs: Sequence[tuple[int, int]]) -> Count | None:
    if opcode == SEND:
        return sum(x.nbytes for x in operands)
    rule = REGISTRY.get(COLLECTIVE_PRIMITIVES[opcode])
    if rule is None or not members:
        return None
    params = {"axes": (), "axis_size": members, "perm": pairs}
    costs = [rule.function(Equation(rule.name, (operand,), (operand,), params)) for operand in operands]
    return sum(cost.of_kind(BYTES_SENT) for cost in costs if isinstance(cost, Cost))


def _axes(groups: Sequence[Sequence[int]], pairs: Sequence[tuple[int, int]], mesh: Mesh) -> tuple[str, ...] | None:
    """Return the axes along which the groups or pairs lie, without axes of size 1; None where no axes fit.

    An axis along which a group has only a part of the devices counts too.
    """
    wide = [name for name, size in mesh.items() if size > 1]
    if pairs:
        crossed = {name for pair in pairs for name in _crossed(*pair, mesh)}
        return tuple(name for name in wide if name in crossed)
    wanted = frozenset(frozenset(group) for group in groups)
    whole = {(name, 0): size for name, size in mesh.items()}
    parts = {(name, i): factor for name, size in mesh.items() for i, factor in enumerate(_factors(size))}
    found = _lying_along(wanted, tuple(whole.items())) or _lying_along(wanted, tuple(parts.items()))
    return None if found is None else tuple(name for name in wide if name in {axis for axis, _ in found})


def _factors(size: int) -> list[int]:
    """Return the prime factors of a size, of which the partitioner may use a part: 2, 2, 2 of an axis of 8 devices."""
    factors: list[int] = []
    divisor = 2
    while size > 1:
        while size % divisor == 0:
            factors.append(divisor)
            size //= divisor
        divisor = divisor + 1 if divisor * divisor <= size else max(size, divisor + 1)
    return factors or [1]


@lru_cache(maxsize=1000)
def _lying_along(
    wanted: frozenset[frozenset[int]], sizes: tuple[tuple[tuple[str, int], int], ...]
) -> tuple[tuple[str, int], ...] | None:
    """Return the axes, or parts of axes, along which groups lie, the fewest; None where none fit.

    The module of one of several slices of TPUs has the groups of this slice alone.
    """
    mesh = dict(sizes)
    wide = [axis for axis, size in sizes if size > 1]
    members = {len(group) for group in wanted}
    for count in range(len(wide) + 1):
        for axes in combinations(wide, count):
            if members == {prod(mesh[axis] for axis in axes)} and wanted <= _groups(mesh, axes):
                return axes
    return None


def _groups(mesh: Mapping[_Axis, int], axes: Sequence[_Axis]) -> set[frozenset[int]]:
    """Return the groups of devices whose coordinates differ only along these axes."""
    groups: dict[tuple[int, ...], set[int]] = {}
    for device, coordinates in enumerate(product(*(range(size) for size in mesh.values()))):
        fixed = tuple(i for name, i in zip(mesh, coordinates, strict=True) if name not in axes)
        groups.setdefault(fixed, set()).add(device)
    return {frozenset(group) for group in groups.values()}


def _crossed(source: int, target: int, mesh: Mesh) -> set[str]:
    """Return the axes along which the coordinates of two devices differ."""
    crossed: set[str] = set()
    for name, size in reversed(list(mesh.items())):
        if source % size != target % size:
            crossed.add(name)
        source, target = source // size, target // size
    return crossed
