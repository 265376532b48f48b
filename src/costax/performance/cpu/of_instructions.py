"""The steps of a kernel of a compiled module, read from its instructions, and the bytes that it moves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Final

from costax.hlo.records import Computation, Instruction
from costax.hlo.shapes import Shape
from costax.performance.contractions import compiled_sizes
from costax.performance.cpu import steps
from costax.performance.cpu.steps import Step

# Instructions that cost nothing beside the bytes that they read and write.
_FREE: Final = frozenset(
    {
        *(
            "parameter",
            "constant",
            "bitcast",
            "tuple",
            "get-tuple-element",
            "broadcast",
            "reshape",
            "optimization-barrier",
        ),
        # A slice in a kernel is another index, and alone it is the bytes that it copies.
        *(
            "slice",
            "fusion",
            "call",
            "while",
            "conditional",
            "after-all",
            "add-dependency",
            "opt-barrier",
            "partition-id",
        ),
    }
)
_ROUTINE: Final = "lapack_"
_PARTITIONS: Final = re.compile(rb'"outer_dimension_partitions"\s*:\s*\[([^\]]*)\]')
_NUMBER: Final = re.compile(rb"\d{1,9}")


def steps_of(owner: Instruction) -> tuple[list[Step], list[str]]:
    """Return the steps of a kernel, and the names of what no step describes. owner: its fusion or instruction."""
    found: list[Step] = []
    unknown: list[str] = []
    library = owner.opcode == "fusion" and owner.fusion_kind == "kCustom"
    paired = library and _expands(owner)
    for ins in _inside(owner):
        read = _READERS.get(ins.opcode)
        if ins.opcode in ("dot", "convolution"):
            found += _contraction(ins, library)
        elif read is not None:
            found += [_of_pairs(step) for step in read(ins)] if paired else read(ins)
        elif ins.opcode not in _FREE:
            shape = _result(ins)
            made = steps.elementwise(ins.opcode, shape.dtype, shape.elements)
            found += made
            if not made and shape.elements > 1:
                unknown.append(ins.custom_call_target or ins.opcode)
    return found, unknown


def _expands(owner: Instruction) -> bool:
    """Say whether a fusion reduces an array that is larger than every array that it reads, as of distances of pairs."""
    sizes = [x.operand(0).shape.first().elements for x in _inside(owner) if x.opcode == "reduce"]
    largest = max((x.shape.first().elements for x in owner.operands), default=0)
    return max(sizes, default=0) > 2 * largest


def _of_pairs(step: Step) -> Step:
    return step._replace(table="reduce.pairs") if step.table in ("reduce.rows", "reduce.columns") else step


def is_divided(owner: Instruction) -> bool:
    """Say whether XLA divides a kernel among threads."""
    match = _PARTITIONS.search(owner.backend_config)
    return match is not None and any(int(count) > 1 for count in _NUMBER.findall(match[1]))


def moved(owner: Instruction) -> tuple[int, int]:
    """Return the bytes that a kernel reads and writes, and those of its operands that it reads.

    Of an operand that is only sliced or gathered from, the parts count; of an array that is updated in place, the
    update.
    """
    if owner.opcode != "fusion" or not owner.called:
        read = sum(_read_by(owner, x) for x in dict.fromkeys(owner.operands))
        return read + _written(owner), read
    body = owner.called[0]
    read = 0
    for parameter in body.parameters:
        users = list(_users(parameter))
        whole = _bytes(parameter)
        read += min(whole, sum(_read_by(user, source) for user, source in users)) if users else 0
    return read + sum(_written(x) for x in _roots(body)), read


def _users(ins: Instruction) -> Iterator[tuple[Instruction, Instruction]]:
    """Yield the users of a value behind bitcasts, each with the value as it takes it."""
    for user in ins.users:
        if user.opcode == "bitcast":
            yield from _users(user)
        else:
            yield user, ins


def _roots(body: Computation) -> list[Instruction]:
    root = body.root
    while root.opcode == "bitcast" and root.operands:
        root = root.operands[0]
    return list(root.operands) if root.opcode == "tuple" else [root]


def _read_by(user: Instruction, source: Instruction) -> int:
    """Return how many bytes an instruction reads of an operand."""
    if user.opcode in ("slice", "dynamic-slice", "gather") and source is user.operand(0):
        return _bytes(user)
    if user.opcode in ("dynamic-update-slice", "scatter") and source is user.operand(0):
        return 0
    return _bytes(source)


def _written(ins: Instruction) -> int:
    while ins.opcode == "bitcast" and ins.operands:
        ins = ins.operands[0]
    if ins.opcode == "dynamic-update-slice":
        return _bytes(ins.operand(1))
    if ins.opcode == "scatter":
        return 2 * sum(_bytes(x) for x in ins.operands[len(ins.operands) // 2 + 1 :])
    return _bytes(ins)


def _inside(owner: Instruction) -> Iterator[Instruction]:
    """Yield the instructions of a kernel, those of fusions in it too."""
    if owner.opcode != "fusion":
        yield owner
        return
    for computation in owner.called:
        for ins in computation.instructions:
            yield from _inside(ins)


def _bytes(ins: Instruction) -> int:
    return sum(leaf.elements * leaf.element_bits // 8 for leaf in ins.shape.arrays())


def _result(ins: Instruction) -> Shape:
    """Return the shape of the first result; for a comparison that of its operand, whose dtype decides the time."""
    source = ins.operands[0].shape if ins.opcode in ("compare", "is-finite", "abs", "real", "imag") else ins.shape
    return next(iter(source.arrays()), ins.shape)


def _minor(shape: Shape) -> int:
    """Return the dimension along which neighbours lie, of those with more than one element."""
    order = shape.layout.minor_to_major if shape.layout is not None else tuple(range(len(shape.dims)))[::-1]
    return next((axis for axis in order if shape.dims[axis] > 1), order[0] if order else 0)


def _reduce(ins: Instruction) -> list[Step]:
    source = ins.operand(0).shape
    return steps.reduction(source.dtype, source.dims, ins.dimensions, _minor(source), operands=len(ins.operands) // 2)


def _window(ins: Instruction) -> list[Step]:
    shape = _result(ins)
    size, strided = prod(w.size for w in ins.window), any(w.stride > 1 for w in ins.window)
    return steps.windowed(shape.dtype, shape.elements, size, len(ins.operands) // 2, strided=strided)


def _select_and_scatter(ins: Instruction) -> list[Step]:
    shape = ins.operand(1).shape
    window = prod(w.size for w in ins.window)
    return [
        *steps.windowed(shape.dtype, shape.elements, window, 2, strided=True),
        *steps.scattered(shape.dtype, shape.elements, 1),
    ]


def _gather(ins: Instruction) -> list[Step]:
    return steps.gathered(ins.shape.dtype, ins.shape.elements, ins.shape.elements / max(_indices(ins.operand(1)), 1))


def _scatter(ins: Instruction) -> list[Step]:
    count = len(ins.operands) // 2
    update = ins.operand(count + 1).shape
    rows = max(_indices(ins.operand(count)), 1)
    return [
        step for _ in range(count) for step in steps.scattered(update.dtype, update.elements, update.elements / rows)
    ]


def _indices(ins: Instruction) -> int:
    """Return the number of indices: jax writes the parts of an index along the last dimension."""
    return prod(ins.shape.dims[:-1])


def _copy(ins: Instruction) -> list[Step]:
    before, after = ins.operand(0).shape, ins.shape
    if not after.is_array or before.layout is None or after.layout is None:
        return []
    permutation = ins.dimensions if ins.opcode == "transpose" else tuple(range(len(after.dims)))
    written = [permutation[axis] for axis in after.layout.minor_to_major if after.dims[axis] > 1]
    if written == [axis for axis in before.layout.minor_to_major if before.dims[axis] > 1]:
        return []
    return steps.transposed(after.dtype, after.elements, after.element_bits / 8)


def _move(ins: Instruction) -> list[Step]:
    source = ins.operand(1) if ins.opcode == "dynamic-update-slice" else ins
    elements = source.shape.elements
    return [Step(f"move.{ins.opcode}", source.shape.dtype, elements)] if elements > 1 else []


def _convert(ins: Instruction) -> list[Step]:
    return steps.converted(ins.operand(0).shape.dtype, ins.shape.dtype, ins.shape.elements)


def _sort(ins: Instruction) -> list[Step]:
    source = ins.operand(0).shape
    axis = ins.dimensions[0] if ins.dimensions else 0
    return steps.sorted_rows(source.dtype, source.dims, axis, _minor(source), len(ins.operands))


def _fft(ins: Instruction) -> list[Step]:
    source, out = ins.operand(0).shape, ins.shape
    length = prod(ins.fft_length)
    # The inverse of a transform of real numbers has more elements after than before.
    return steps.transform(
        "c64",
        max(source.elements, out.elements)
        / (1 if "c" in source.dtype[:1] + out.dtype[:1] and source.dtype == out.dtype else 2),
        length,
    )


def _custom_call(ins: Instruction) -> list[Step]:
    target = ins.custom_call_target
    if target.startswith(_ROUTINE):
        dims = ins.operand(0).shape.dims
        routine = target.removeprefix(_ROUTINE).removesuffix("_ffi")
        others = ins.operand(1).shape.dims[-1] if routine[1:] == "trsm" else 0
        return steps.factorisation(routine[1:], ins.operand(0).shape.dtype, dims, others)
    if target == "TopK":
        return steps.top(ins.operand(0).shape.dtype, ins.operand(0).shape.dims, _result(ins).dims[-1])
    return []


def _solver(ins: Instruction) -> list[Step]:
    dims, dtype = ins.operand(0).shape.dims, ins.operand(0).shape.dtype
    if ins.opcode == "cholesky":
        return steps.factorisation("potrf", dtype, dims)
    return steps.factorisation("trsm", dtype, dims, ins.operand(1).shape.dims[-1])


def _contraction(ins: Instruction, library: bool) -> list[Step]:
    sizes = compiled_sizes(ins)
    if not sizes:
        return []
    batch, m, n, k = (float(x) for x in sizes)
    dtype = ins.operands[0].shape.dtype
    if ins.opcode == "dot":
        return steps.product(dtype, batch, m, n, k)
    holes = any(w.base_dilation > 1 for w in ins.window)
    return steps.convolution(dtype, (batch, m, n, k), len(ins.window), fused=library, holes=holes)


_READERS: Final[Mapping[str, Callable[[Instruction], list[Step]]]] = {
    "reduce": _reduce,
    "reduce-window": _window,
    "select-and-scatter": _select_and_scatter,
    "gather": _gather,
    "scatter": _scatter,
    "copy": _copy,
    "transpose": _copy,
    "convert": _convert,
    "sort": _sort,
    "fft": _fft,
    "custom-call": _custom_call,
    "cholesky": _solver,
    "triangular-solve": _solver,
    **dict.fromkeys(steps.MOVES, _move),
}
