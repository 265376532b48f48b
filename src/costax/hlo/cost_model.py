"""What a jaxlib counts by: the sizes of shapes, and the few rules that changed between versions.

Measured on jaxlib 0.8.2, 0.9.0, 0.10.2, 0.11.0, 0.11.1, 0.11.2, 0.12.0 and 0.12.0.1; tests/hlo/test_cost_model.py asks
the one that is installed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Final, Literal, NamedTuple, TypeVar

from costax.hlo.errors import HloError, malformed
from costax.hlo.records import Computation, Instruction
from costax.hlo.shapes import Layout, Shape, count

Term = int | Fraction
"""A summand: XLA computes it in int64, then adds it to others in float32. A fraction is a half of a byte."""


# Fusions are read inside out, so that one level is enough; only custom fusions of gathers are not.
_DEEPEST_FUSION: Final = 100
# A damaged file can ask for windows with 2^60 positions, which nobody could walk.
_MOST_POSITIONS: Final = 2**22


class Work(NamedTuple):
    """What XLA charges one instruction.

    `bytes` are summands, because XLA adds them in float32 one after the other. `applied` are (computation, count):
    its flops and transcendentals times the count. `runs` are computations that are charged in full, joined as
    `joined` says: by a call (bytes too), in a fusion (without bytes), or as branches (the maximum of each property).
    """

    flops: int = 0
    transcendentals: int = 0
    bytes: tuple[Term, ...] = ()
    applied: tuple[tuple[Computation, int], ...] = ()
    runs: tuple[Computation, ...] = ()
    joined: Literal["", "call", "fusion", "branches"] = ""


NOTHING: Final = Work()


class Law:
    """XLA's law of one jaxlib. Holds the sizes of the shapes that it was asked for."""

    def __init__(self, version: tuple[int, ...], *, tpu: bool = False) -> None:
        """Take the version of the jaxlib, as in (0, 10, 2), and whether libtpu counts."""
        self.version = version
        # libtpu adds padding and leaves out what stays on the chip; its bytes are not replayed.
        self.properties: tuple[str, ...] = (
            ("flops", "transcendentals") if tpu else ("flops", "transcendentals", "bytes accessed")
        )
        self.tpu = tpu
        # From jaxlib 0.11.2 on PJRT gives the size of a buffer: tiles are padded, a tuple's table has 4 bytes an entry.
        self.pads_tiles: bool = version >= (0, 11, 2)
        self.pointer_bytes = 4 if version >= (0, 11, 2) else 8
        # jaxlib 0.11.0 (XLA 365558c6): markers around inlined calls are free, other custom calls count -1.
        self.free_targets: frozenset[str] = (
            frozenset({"__xla_internal_call_marker_before", "__xla_internal_call_marker_after"})
            if version >= (0, 11)
            else frozenset[str]()
        )
        if tpu:
            # libtpu charges -1 for its other custom calls, too.
            self.free_targets |= {"AllocateBuffer"}
        self._sizes: dict[Shape, int] = {}
        self._reads: dict[Instruction, int] = {}
        self._depth = 0
        self._parameters: dict[Computation, tuple[Instruction, ...]] = {}
        self._places: dict[Instruction, dict[Instruction, list[int]]] = {}
        self._taps: dict[tuple[object, ...], int] = {}
        self._budget = _MOST_POSITIONS

    def size(self, shape: Shape) -> int:
        """Return the bytes of a shape's own buffer: of a tuple, only its table of pointers.

        XLA: GetShapeSize. 0 without a layout; packed elements where the layout gives their bits; a dynamic shape
        carries 4 bytes a dimension.
        """
        found = self._sizes.get(shape)
        if found is None:
            found = self._sizes[shape] = self._size(shape)
        return found

    def whole(self, instruction: Instruction) -> tuple[int, ...]:
        """Return the default bytes: every leaf of the output, then every operand. XLA: Preprocess."""
        shape = instruction.shape
        outputs = [self.size(leaf) for leaf in shape.leaves()] if shape.is_tuple else [self.size(shape)]
        return (*outputs, *[self.size(x.shape) for x in instruction.operands])

    def read(self, parameter: Instruction, rule: Callable[[Instruction, Law], int]) -> int:
        """Return the bytes that a fusion reads of a parameter, computed once by `rule`."""
        found = self._reads.get(parameter)
        if found is None:
            if self._depth > _DEEPEST_FUSION:
                raise malformed(f"Fusions nest more than {_DEEPEST_FUSION} deep", where=parameter.name)
            self._depth += 1
            found = self._reads[parameter] = rule(parameter, self)
            self._depth -= 1
        return found

    def parameters(self, computation: Computation) -> tuple[Instruction, ...]:
        """Return the parameters of a computation by number."""
        found = self._parameters.get(computation)
        if found is None:
            found = self._parameters[computation] = computation.parameters
        return found

    def places(self, user: Instruction) -> dict[Instruction, list[int]]:
        """Return at which places an instruction has each operand."""
        found = self._places.get(user)
        if found is None:
            found = self._places[user] = {}
            for i, operand in enumerate(user.operands):
                found.setdefault(operand, []).append(i)
        return found

    def taps(self, window: tuple[object, ...], positions: int, walk: Callable[[], int]) -> int:
        """Return what `walk` counts over the positions of a window, walked once; HloError beyond any real module."""
        found = self._taps.get(window)
        if found is None:
            self._budget -= positions
            if self._budget < 0:
                raise malformed(f"The convolutions have more than {_MOST_POSITIONS} different window positions")
            found = self._taps[window] = walk()
        return found

    def _size(self, shape: Shape) -> int:
        if not _has_layout(shape):
            return 0
        match shape.dtype:
            case "tuple":
                return self.pointer_bytes * len(shape.parts)
            case "token":
                return 0
            case "opaque":
                return 8
            case "buffer":
                return self.size(shape.parts[0])
            case _:
                return self._array(shape) + (4 * len(shape.dims) if any(shape.dynamic) else 0)

    def _array(self, shape: Shape) -> int:
        layout = shape.layout
        elements = shape.elements
        if self.pads_tiles and layout is not None and layout.tiles:
            elements = _padded(shape, layout)
        bits = layout.element_bits if layout is not None else 0
        return -(-elements * (bits or shape.element_bits) // 8)


def _has_layout(shape: Shape) -> bool:
    if shape.is_tuple:
        return all(map(_has_layout, shape.parts))
    return shape.layout is not None or not shape.is_array


def _padded(shape: Shape, layout: Layout) -> int:
    """Elements with the minor dimensions rounded up to the first tile. XLA: ShapeUtil::ArraySize."""
    tile = layout.tiles[0]
    splits = dict(layout.splits)
    # Minor to major; of a dimension that is split between memories the largest piece counts.
    extents = [_largest_piece(shape.dims[d], splits.get(d, ())) for d in layout.minor_to_major]
    extents += [1] * (len(tile) - len(extents))
    # A tile extent below 0 joins dimensions ("*"); XLA's rounding makes nothing of it.
    if any(extent <= 0 for extent in tile):
        return 0
    rounded = [-(-extent // t) * t for extent, t in zip(extents, reversed(tile), strict=False)]
    elements = count([*rounded, *extents[len(tile) :]], what="padded elements")
    return -(-elements // layout.tail_padding) * layout.tail_padding


def _largest_piece(extent: int, indices: tuple[int, ...]) -> int:
    edges = (0, *indices, extent)
    return max(b - a for a, b in pairwise(edges))


def law_of(version: str | None = None, *, tpu: bool = False) -> Law:
    """Return the law of a jaxlib version; without one, of the jaxlib that is installed. tpu: as libtpu counts."""
    if version is None:
        from costax import _jax

        return Law(_jax.JAXLIB_VERSION, tpu=tpu)
    return Law(tuple(int(part) for part in re.findall(r"\d+", version)[:3]), tpu=tpu)


# Opcodes.

Handler = Callable[[Instruction, Law], Work]
_H = TypeVar("_H", bound=Handler)
_HANDLERS: Final[dict[str, Handler]] = {}


def opcode(*names: str) -> Callable[[_H], _H]:
    """Register XLA's law of opcodes under their names in HLO text."""

    def register(handler: _H) -> _H:
        for name in names:
            if name in _HANDLERS:
                raise ValueError(f"`{name}` has a law already: {_HANDLERS[name].__name__}")
            _HANDLERS[name] = handler
        return handler

    return register


def handler(name: str) -> Handler:
    """Return the law of an opcode; HloError if costax knows none."""
    found = _HANDLERS.get(name)
    if found is None:
        raise HloError(
            f"No law says what the HLO opcode `{name}` costs",
            why="Counting it as nothing would be a silent zero.",
            cure="Newer XLA may have newer opcodes: please report this opcode and the jaxlib version.",
        )
    return found


def opcodes() -> Iterator[tuple[str, Handler]]:
    """Yield (opcode, law), sorted by name."""
    yield from sorted(_HANDLERS.items())
