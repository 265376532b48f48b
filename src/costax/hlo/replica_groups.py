"""Groups of devices: which of them exchange data in a collective, in the three ways that XLA writes it.

Listed one by one, as an iota that is reshaped, transposed and cut into rows, or (jaxlib 0.12) as axes of a mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

from costax.hlo.errors import malformed

Groups = tuple[tuple[int, ...], ...]

# More devices than any machine has; a file that asks for more is damaged.
_MOST_DEVICES: Final = 2**20


def iota(raw: Any, where: str) -> Groups:
    """Return the rows of `iota(n)`, reshaped and transposed; none of an empty message."""
    extents = tuple(raw.reshape)
    order = tuple(raw.transpose) or tuple(range(len(extents)))
    if not extents:
        return ()
    if sorted(order) != list(range(len(extents))) or prod(extents) != raw.groups * raw.devices:
        raise malformed(f"{raw.groups} groups of {raw.devices} devices do not fit {list(extents[:8])}", where=where)
    return _cut(extents, order, raw.devices, where)


def of_mesh(raw: Any, where: str) -> Groups:
    """Return the groups that differ along the named axes, or parts of axes, of a mesh; none of an empty message."""
    sizes = [axis.size for axis in raw.mesh.axes]
    if not sizes:
        return ()
    # Each axis becomes three: what varies slower than the part of it that is named, that part, what varies faster.
    extents = [part for size in sizes for part in (1, 1, size)]
    named: list[int] = []
    for axis in raw.axes:
        if not 0 <= axis.index < len(sizes):
            raise malformed(f"A mesh of {len(sizes)} axes has no axis {axis.index}", where=where)
        size = sizes[axis.index]
        slower, part = (axis.part.before, axis.part.size) if axis.HasField("part") else (1, size)
        if slower < 1 or part < 1 or size % (slower * part):
            raise malformed(f"An axis of {size} has no part of {part} after {slower}", where=where)
        extents[3 * axis.index : 3 * axis.index + 3] = (slower, part, size // (slower * part))
        named.append(3 * axis.index + 1)
    order = [i for i in range(len(extents)) if i not in named] + named
    return _cut(extents, order, prod(extents[i] for i in named), where)


def _cut(extents: Sequence[int], order: Sequence[int], row: int, where: str) -> Groups:
    total = prod(extents)
    if not (0 < total <= _MOST_DEVICES and 0 < row <= total):
        raise malformed(f"A mesh of {'x'.join(map(str, extents[:8]))} devices", where=where)
    devices = [0]
    for axis in order:
        stride = prod(extents[axis + 1 :])
        devices = [base + i * stride for base in devices for i in range(extents[axis])]
    return tuple(tuple(devices[i : i + row]) for i in range(0, total, row))
