"""XLA's cost model in one version of jaxlib: sizes of shapes, the few rules that changed, and a handler per opcode.

Measured on jaxlib 0.8.2, 0.9.0, 0.10.2, 0.11.0, 0.11.1, 0.11.2, 0.12.0 and 0.12.0.1; tests/hlo/test_cost_model.py
checks the installed version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Final, Literal, NamedTuple, TypeVar

from costax.errors import HloError
from costax.hlo.errors import malformed
from costax.hlo.records import Computation, Instruction
from costax.hlo.shapes import Layout, Shape, count

Term = int | Fraction
"""A summand: XLA computes it in int64, then adds it to others in float32. A Fraction is half a byte."""


# The bytes of nested fusions are computed recursively, which Python limits. XLA nests fusions one level deep.
_MAX_FUSION_DEPTH: Final = 100
# A damaged file can hold windows with 2^60 positions, which would take forever to enumerate.
_MAX_WINDOW_POSITIONS: Final = 2**22


class Work(NamedTuple):
    """What XLA counts for one instruction.

    `bytes` holds summands, because XLA adds them one after the other in float32. `applied` holds (computation, count):
    the FLOPs and transcendentals of the computation are multiplied by the count. `runs` holds computations whose cost
    is added in full. `joined` says how: "call" adds bytes too, "fusion" adds no bytes, and "branches" takes the maximum
    of each property.
    """

    flops: int = 0
    transcendentals: int = 0
    bytes: tuple[Term, ...] = ()
    applied: tuple[tuple[Computation, int], ...] = ()
    runs: tuple[Computation, ...] = ()
    joined: Literal["", "call", "fusion", "branches"] = ""


NOTHING: Final = Work()


class CostModel:
    """XLA's cost model in one version of jaxlib; caches the sizes that it computes for the instructions of a module."""

    def __init__(self, version: tuple[int, ...], *, tpu: bool = False) -> None:
        """Take the version of jaxlib, as in (0, 10, 2), and whether to count as libtpu does."""
        self.version = version
        # libtpu counts the bytes of padded tiles, and none for buffers in on-chip memory: they are not replayed.
        self.properties: tuple[str, ...] = (
            ("flops", "transcendentals") if tpu else ("flops", "transcendentals", "bytes accessed")
        )
        self.tpu = tpu
        # Since jaxlib 0.11.2 PJRT gives the size of a buffer: tiles are padded, and a pointer of a tuple has 4 bytes.
        self.pads_tiles: bool = version >= (0, 11, 2)
        self.pointer_bytes = 4 if version >= (0, 11, 2) else 8
        # Since jaxlib 0.11.0 (XLA 365558c6) markers around inlined calls are free. Other custom calls count -1.
        self.free_targets: frozenset[str] = (
            frozenset({"__xla_internal_call_marker_before", "__xla_internal_call_marker_after"})
            if version >= (0, 11)
            else frozenset[str]()
        )
        if tpu:
            # libtpu counts its other custom calls as -1, too.
            self.free_targets |= {"AllocateBuffer"}
        self._sizes: dict[Shape, int] = {}
        self._reads: dict[Instruction, int] = {}
        self._depth = 0
        self._parameters: dict[Computation, tuple[Instruction, ...]] = {}
        self._operand_positions: dict[Instruction, dict[Instruction, list[int]]] = {}
        self._taps: dict[tuple[object, ...], int] = {}
        self._budget = _MAX_WINDOW_POSITIONS

    def size(self, shape: Shape) -> int:
        """Return the bytes of a shape's own buffer; for a tuple, of its table of pointers.

        A shape without a layout has 0 bytes. Elements are packed where the layout gives their bits. A dynamic shape has
        4 more bytes for each dimension. XLA: GetShapeSize.
        """
        size = self._sizes.get(shape)
        if size is None:
            size = self._sizes[shape] = self._size(shape)
        return size

    def default_bytes(self, instruction: Instruction) -> tuple[int, ...]:
        """Return the bytes of every leaf of the output, then of every operand. XLA: Preprocess."""
        shape = instruction.shape
        outputs = [self.size(leaf) for leaf in shape.leaves()] if shape.is_tuple else [self.size(shape)]
        return (*outputs, *[self.size(x.shape) for x in instruction.operands])

    def read(self, parameter: Instruction, rule: Callable[[Instruction, CostModel], int]) -> int:
        """Return the bytes that a fusion reads of a parameter, as `rule` computes them; the result is cached."""
        nbytes = self._reads.get(parameter)
        if nbytes is None:
            if self._depth > _MAX_FUSION_DEPTH:
                raise malformed(f"Fusions nest more than {_MAX_FUSION_DEPTH} deep", where=parameter.name)
            self._depth += 1
            nbytes = self._reads[parameter] = rule(parameter, self)
            self._depth -= 1
        return nbytes

    def parameters(self, computation: Computation) -> tuple[Instruction, ...]:
        """Return the parameters of a computation by number."""
        parameters = self._parameters.get(computation)
        if parameters is None:
            parameters = self._parameters[computation] = computation.parameters
        return parameters

    def operand_positions(self, user: Instruction) -> dict[Instruction, list[int]]:
        """Return the operand positions of each distinct operand of an instruction."""
        positions = self._operand_positions.get(user)
        if positions is None:
            positions = self._operand_positions[user] = {}
            for i, operand in enumerate(user.operands):
                positions.setdefault(operand, []).append(i)
        return positions

    def cached_taps(self, window: tuple[object, ...], positions: int, walk: Callable[[], int]) -> int:
        """Return the valid taps of a window, as `walk` counts them; the result is cached.

        Raises HloError if the windows of the module have more positions than those of any real module.
        """
        valid = self._taps.get(window)
        if valid is None:
            self._budget -= positions
            if self._budget < 0:
                raise malformed(f"The convolutions have more than {_MAX_WINDOW_POSITIONS} different window positions")
            valid = self._taps[window] = walk()
        return valid

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
    """Return the elements, with the minor dimensions rounded up to the first tile. XLA: ShapeUtil::ArraySize."""
    tile = layout.tiles[0]
    splits = dict(layout.splits)
    # Minor to major. If a dimension is split between memories, its largest piece counts.
    extents = [_largest_piece(shape.dims[d], splits.get(d, ())) for d in layout.minor_to_major]
    extents += [1] * (len(tile) - len(extents))
    # A negative tile extent means "combine dimensions" (`*` in HLO text); XLA's rounding returns 0 for it.
    if any(extent <= 0 for extent in tile):
        return 0
    rounded = [-(-extent // t) * t for extent, t in zip(extents, reversed(tile), strict=False)]
    elements = count([*rounded, *extents[len(tile) :]], what="padded elements")
    return -(-elements // layout.tail_padding) * layout.tail_padding


def _largest_piece(extent: int, indices: tuple[int, ...]) -> int:
    edges = (0, *indices, extent)
    return max(b - a for a, b in pairwise(edges))


def cost_model_for(version: str | None = None, *, tpu: bool = False) -> CostModel:
    """Return the cost model of a jaxlib version, by default of the installed one. tpu: count as libtpu does."""
    if version is None:
        from costax import _jax

        return CostModel(_jax.JAXLIB_VERSION, tpu=tpu)
    return CostModel(tuple(int(part) for part in re.findall(r"\d+", version)[:3]), tpu=tpu)


# Opcodes.

Handler = Callable[[Instruction, CostModel], Work]
_H = TypeVar("_H", bound=Handler)
_HANDLERS: Final[dict[str, Handler]] = {}


def opcode(*names: str) -> Callable[[_H], _H]:
    """Register a handler, which returns XLA's cost of an instruction, under the names of opcodes in HLO text."""

    def register(handler: _H) -> _H:
        for name in names:
            if name in _HANDLERS:
                raise ValueError(f"`{name}` has a handler already: {_HANDLERS[name].__name__}")
            _HANDLERS[name] = handler
        return handler

    return register


def handler(name: str) -> Handler:
    """Return the handler of an opcode. Raises HloError for an unknown opcode."""
    registered = _HANDLERS.get(name)
    if registered is None:
        raise HloError(
            f"costax does not know how XLA counts the HLO opcode `{name}`",
            why="Without its cost, the totals of the module would be too small.",
            cure="Newer versions of XLA may have new opcodes: please report this opcode and the jaxlib version.",
        )
    return registered


def opcodes() -> Iterator[tuple[str, Handler]]:
    """Yield (opcode, handler), sorted by opcode."""
    yield from sorted(_HANDLERS.items())
