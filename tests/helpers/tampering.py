"""Falsified HLO modules: the instructions of one equation are removed, doubled, halved or exchanged.

Each function takes a serialised `HloModuleProto` and the names of instructions, and returns the bytes of another module
that XLA reads too, or None where nothing can be falsified in this way. Untouched instructions keep their bytes, and
fields that costax does not know survive. Example: `remove(hlo, ["dot.5"])` makes `dot.5` a copy, which costs no FLOPs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any, Literal, NamedTuple

from costax.hlo.opcodes import elementwise, handler
from costax.hlo.proto import MESSAGES, decode
from costax.hlo.shapes import Shape
from hlo_editing import Computation, EditedModule, Line, half_shape, renamed


def remove(module: bytes, names: Iterable[str]) -> bytes | None:
    """Make each instruction a copy of an operand, else a zero; its name, shape, mark and users stay."""
    return _tampered(module, names, Computation.make_costless)


def drop(module: bytes, names: Iterable[str]) -> bytes | None:
    """Delete each instruction; its users read an operand of the same shape, else a new costless instruction."""

    def dropped(computation: Computation, line: Line) -> bool:
        if not computation.has_zero(line):
            return False
        substitute = computation.same_shape(line.message)
        if substitute is None:
            substitute = computation.zero(line, line.message.shape).message.id
        computation.replace_uses(line.message.id, substitute)
        computation.delete(line)
        return True

    return _tampered(module, names, dropped)


def double(module: bytes, names: Iterable[str], *, used: bool = False) -> bytes | None:
    """Add a copy with a new name after each instruction; computations that it calls are shared.

    used: the last user reads the copy, else nobody does.
    """

    def doubled(computation: Computation, line: Line) -> bool:
        own = line.message.id
        users = [other for other in computation.lines if own in other.message.operand_ids]
        is_root = computation.message.root_id == own
        if used and not users and not is_root:
            return False
        new = computation.insert(line, renamed(line.message, computation.new_name(line.message)), after=True)
        if used:
            computation.replace_uses(own, new.message.id, users[-1:], root=not users)
        return True

    return _tampered(module, names, doubled)


def halve(module: bytes, names: Iterable[str]) -> bytes | None:
    """Let each instruction work on the first half of one dimension; users read its output twice, concatenated."""

    def halved(computation: Computation, line: Line) -> bool:
        shapes = [computation.shape(i) for i in line.message.operand_ids]
        output = computation.shape(line.message.id)
        splits = _splits(line.message, shapes, output)
        split = next((each for each in splits if _is_even(each, shapes, output)), None)
        if split is None:
            return False
        _halve(computation, line, split)
        return True

    return _tampered(module, names, halved)


def exchange(
    module: bytes,
    names_a: Sequence[str],
    names_b: Sequence[str],
    *,
    what: Literal["contents", "names", "metadata"] = "contents",
) -> bytes | None:
    """Exchange the instructions of two equations, the first of one with the first of the other, and so on.

    The graph stays as it is, and so does the total. what: "contents" lets each name and its mark stand for the work of
    the other: opcode, attributes, operands and users; "names" leaves the mark with the work; "metadata" exchanges only
    the marks. Pairs that do the same work are left alone: to exchange them changes nothing.
    """
    fields = {"contents": ("name", "metadata"), "names": ("name",), "metadata": ("metadata",)}[what]
    tampered = EditedModule(module)
    found = tampered.by_name({*names_a, *names_b})
    changed = False
    for a, b in zip(names_a, names_b, strict=False):
        if a not in found or b not in found or a == b:
            continue
        (place_a, line_a), (place_b, line_b) = found[a], found[b]
        if place_a.work(line_a) == place_b.work(line_b):
            continue
        for name in fields:
            value_a, value_b = getattr(line_a.message, name), getattr(line_b.message, name)
            changed |= value_a != value_b
            setattr(line_a.changed(), name, value_b)
            setattr(line_b.changed(), name, value_a)
    return tampered.serialized() if changed else None


def _tampered(module: bytes, names: Iterable[str], change: Callable[[Computation, Line], bool]) -> bytes | None:
    """Return the module with the named instructions changed; None where none of them can be."""
    tampered = EditedModule(module)
    found = list(tampered.by_name(set(names)).values())
    changes = [change(computation, line) for computation, line in found]
    return tampered.serialized() if any(changes) else None


# Halves.


class _Split(NamedTuple):
    """Dimensions that are halved together: by operand, and of the output; None where the output keeps its shape."""

    operands: dict[int, int]
    output: int | None = None


def _splits(instruction: Any, shapes: Sequence[Shape], output: Shape) -> Iterator[_Split]:
    """Yield the ways to halve the work of an instruction; the exact ones first."""
    opcode = instruction.opcode.decode()
    if not output.is_array:
        return
    if opcode in _SPLITS:
        yield from _SPLITS[opcode](instruction, shapes, output)
    elif opcode == "map" or handler(opcode) in (elementwise.elementwise, elementwise.transcendental):
        # A scalar operand of a select or clamp is not halved.
        for d in range(len(output.dims)):
            yield _Split({i: d for i, shape in enumerate(shapes) if shape.dims}, d)


def _dot_splits(instruction: Any, shapes: Sequence[Shape], output: Shape) -> Iterator[_Split]:
    numbers = decode("DotDimensionNumbers", instruction.dot_dimension_numbers)
    batch = (numbers.lhs_batch_dimensions, numbers.rhs_batch_dimensions)
    contracting = (numbers.lhs_contracting_dimensions, numbers.rhs_contracting_dimensions)
    for lhs, rhs in zip(*contracting, strict=True):
        yield _Split({0: lhs, 1: rhs})
    # (batch, free of lhs, free of rhs)
    places = count()
    for lhs, rhs in zip(*batch, strict=True):
        yield _Split({0: lhs, 1: rhs}, next(places))
    for i in (0, 1):
        for d in range(len(shapes[i].dims)):
            if d not in {*batch[i], *contracting[i]}:
                yield _Split({i: d}, next(places))


def _convolution_splits(instruction: Any, shapes: Sequence[Shape], output: Shape) -> Iterator[_Split]:
    numbers = decode("ConvolutionDimensionNumbers", instruction.convolution_dimension_numbers)
    if instruction.feature_group_count == instruction.batch_group_count == 1:
        yield _Split({0: numbers.input_feature_dimension, 1: numbers.kernel_input_feature_dimension})
        yield _Split({1: numbers.kernel_output_feature_dimension}, numbers.output_feature_dimension)
    if instruction.batch_group_count == 1:
        yield _Split({0: numbers.input_batch_dimension}, numbers.output_batch_dimension)


def _reduce_splits(instruction: Any, shapes: Sequence[Shape], output: Shape) -> Iterator[_Split]:
    kept = [d for d in range(len(shapes[0].dims)) if d not in instruction.dimensions]
    yield from (_Split({0: d}, place) for place, d in enumerate(kept))
    # n - 1 steps become n / 2 - 1.
    yield from (_Split({0: d}) for d in instruction.dimensions)


def _window_splits(instruction: Any, shapes: Sequence[Shape], output: Shape) -> Iterator[_Split]:
    windows = [decode("WindowDimension", raw) for raw in decode("Window", instruction.window).dimensions]
    for d, w in enumerate(windows):
        if w.size == w.stride == w.base_dilation == 1 and not w.padding_low and not w.padding_high:
            yield _Split({0: d}, d)


def _batch_splits(instruction: Any, shapes: Sequence[Shape], output: Shape) -> Iterator[_Split]:
    inner = len(instruction.fft_length) or 2
    for d in range(len(output.dims) - inner):
        yield _Split({i: d for i in range(len(shapes))}, d)


_SPLITS: dict[str, Callable[[Any, Sequence[Shape], Shape], Iterator[_Split]]] = {
    "dot": _dot_splits,
    "convolution": _convolution_splits,
    "reduce": _reduce_splits,
    "reduce-window": _window_splits,
    **dict.fromkeys(("fft", "cholesky", "triangular-solve"), _batch_splits),
}


def _is_even(split: _Split, shapes: Sequence[Shape], output: Shape) -> bool:
    extents = [shapes[i].dims[d] for i, d in split.operands.items()]
    extents += [] if split.output is None else [output.dims[split.output]]
    dynamic = any(any(shape.dynamic) for shape in (*shapes, output))
    return not dynamic and all(extent and extent % 2 == 0 for extent in extents)


def _halve(computation: Computation, line: Line, split: _Split) -> None:
    operands = list(line.message.operand_ids)
    for i, d in split.operands.items():
        operands[i] = computation.first_half(line, operands[i], d)
    message = line.changed()
    message.operand_ids[:] = operands
    if split.output is None:
        return
    whole = message.shape
    message.shape = half_shape(whole, split.output)
    twice = MESSAGES["Instruction"](
        name=computation.new_name_of("concatenate"), opcode=b"concatenate", shape=whole, dimensions=[split.output]
    )
    new = computation.insert(line, twice, after=True)
    computation.replace_uses(message.id, new.message.id)
    new.message.operand_ids[:] = [message.id, message.id]
