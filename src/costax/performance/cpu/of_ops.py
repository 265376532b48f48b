"""The steps of a kernel of a program that is not compiled, from the equations of its jaxpr."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Final

from costax import _jax
from costax.core.equation import Operand
from costax.performance.contractions import sizes_of
from costax.performance.cpu import steps
from costax.performance.cpu.steps import Step
from costax.program.regions import Op
from costax.rules.traits import ContractionKind

# jax's elementwise primitives, where HLO has another name.
_NAMES: Final[Mapping[str, str]] = {
    "sub": "subtract",
    "mul": "multiply",
    "div": "divide",
    "rem": "remainder",
    "max": "maximum",
    "min": "minimum",
    "neg": "negate",
    "exp": "exponential",
    "exp2": "exponential",
    "expm1": "exponential-minus-one",
    "log1p": "log-plus-one",
    "sin": "sine",
    "cos": "cosine",
    "pow": "power",
    "erf_inv": "log",
    "select_n": "select",
    "is_finite": "is-finite",
    "round": "round-nearest-even",
    "shift_left": "shift-left",
    "shift_right_logical": "shift-right-logical",
    "shift_right_arithmetic": "shift-right-arithmetic",
    "population_count": "popcnt",
    "clz": "count-leading-zeros",
    "bitcast_convert_type": "bitcast-convert",
    "reduce_precision": "reduce-precision",
    "clamp": "clamp",
    "add_any": "add",
    "square": "multiply",
    "integer_pow": "multiply",
    "nextafter": "add",
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge", "lt_to", "le_to", "eq_to"), "compare"),
}
_MOVES: Final[Mapping[str, str]] = {
    "pad": "pad",
    "concatenate": "concatenate",
    "rev": "reverse",
    "dynamic_slice": "dynamic-slice",
}
_FREE: Final = frozenset(
    {
        *(
            "broadcast_in_dim",
            "slice",
            "reshape",
            "squeeze",
            "expand_dims",
            "copy",
            "copy_p",
            "stop_gradient",
            "device_put",
        ),
        *("optimization_barrier", "split", "name", "random_wrap", "random_unwrap", "sharding_constraint", "pvary"),
    }
)
_ROUTINES: Final[Mapping[str, str]] = {
    "cholesky": "potrf",
    "lu": "getrf",
    "geqrf": "geqrf",
    "geqp3": "geqp3",
    "householder_product": "orgqr",
    "eigh": "syevd",
    "svd": "gesdd",
    "eig": "geev",
    "schur": "gees",
    "hessenberg": "gehrd",
    "tridiagonal": "sytrd",
}


def steps_of(ops: Sequence[Op]) -> tuple[list[Step], list[str]]:
    """Return the steps of fused ops, and the names of the primitives that no step describes."""
    found: list[Step] = []
    unknown: list[str] = []
    for op in ops:
        made = _steps(op)
        if made is None:
            unknown.append(op.name)
        else:
            found += [step._replace(units=step.units / op.parts) for step in made] if op.parts > 1 else made
    return found, unknown


def _steps(op: Op) -> list[Step] | None:
    """Return the steps of an op; None for one that is not known."""
    ins = [_jax.operand(v.aval) for v in op.equation.invars]
    outs = [_jax.operand(v.aval) for v in op.equation.outvars]
    if op.inserted is not None or op.name in _FREE or not outs:
        return []
    params: Mapping[str, Any] = op.equation.params
    if op.traits.contraction in (ContractionKind.PRODUCT, ContractionKind.CONVOLUTION):
        return _contraction(op, ins, params)
    if op.name in _READERS:
        return _READERS[op.name](ins, outs, params)
    source = ins[0] if ins and op.name in ("eq", "ne", "lt", "le", "gt", "ge", "abs") else outs[0]
    times = abs(int(params["y"])).bit_length() if op.name == "integer_pow" else 1
    if op.name in _MOVES:
        return [Step(f"move.{_MOVES[op.name]}", outs[0].dtype, _count(outs[0]))]
    if op.name in _ROUTINES:
        return steps.factorisation(_ROUTINES[op.name], ins[0].dtype, ins[0].shape)
    made = steps.elementwise(_NAMES.get(op.name, op.name), source.dtype, _count(source))
    if made or _count(source) <= 1:
        return [step._replace(units=step.units * times) for step in made]
    return None


def _count(operand: Operand) -> float:
    return float(prod(operand.shape))


def _contraction(op: Op, ins: Sequence[Operand], params: Mapping[str, Any]) -> list[Step]:
    sizes = sizes_of(op)
    if not sizes:
        return [Step("product.64", ins[0].dtype, float(2 * op.node.own.macs), 1e6)]
    batch, m, n, k = (float(x) for x in sizes)
    if op.traits.contraction is ContractionKind.PRODUCT:
        return steps.product(ins[0].dtype, batch, m, n, k)
    rank = len(ins[0].shape) - 2
    holes = any(x > 1 for x in params["lhs_dilation"])
    # XLA's library takes the convolutions of images without holes.
    fused = rank == 2 and not holes
    return steps.convolution(ins[0].dtype, (batch, m, n, k), rank, fused=fused, holes=holes)


def _reduce(ins: Sequence[Operand], outs: Sequence[Operand], params: Mapping[str, Any]) -> list[Step]:
    source = ins[0]
    return steps.reduction(source.dtype, source.shape, params["axes"], _minor(source), operands=len(outs))


def _argument(ins: Sequence[Operand], _: Sequence[Operand], params: Mapping[str, Any]) -> list[Step]:
    return steps.reduction(ins[0].dtype, ins[0].shape, params["axes"], _minor(ins[0]), operands=2)


def _cumulative(ins: Sequence[Operand], _: Sequence[Operand], __: Mapping[str, Any]) -> list[Step]:
    # XLA computes it in blocks of 16.
    return steps.windowed(ins[0].dtype, _count(ins[0]), 16)


def _window(ins: Sequence[Operand], outs: Sequence[Operand], params: Mapping[str, Any]) -> list[Step]:
    size, strided = prod(params["window_dimensions"]), any(x > 1 for x in params.get("window_strides", ()))
    return steps.windowed(outs[0].dtype, _count(outs[0]), size, len(outs), strided=strided)


def _gather(ins: Sequence[Operand], outs: Sequence[Operand], _: Mapping[str, Any]) -> list[Step]:
    return steps.gathered(outs[0].dtype, _count(outs[0]), _count(outs[0]) / max(prod(ins[1].shape[:-1]), 1))


def _scatter(ins: Sequence[Operand], _: Sequence[Operand], __: Mapping[str, Any]) -> list[Step]:
    updates = ins[2]
    return steps.scattered(updates.dtype, _count(updates), _count(updates) / max(prod(ins[1].shape[:-1]), 1))


def _update(ins: Sequence[Operand], _: Sequence[Operand], __: Mapping[str, Any]) -> list[Step]:
    return [Step("move.dynamic-update-slice", ins[1].dtype, _count(ins[1]))]


def _transpose(ins: Sequence[Operand], outs: Sequence[Operand], params: Mapping[str, Any]) -> list[Step]:
    long = [axis for axis in params["permutation"] if ins[0].shape[axis] > 1]
    if long == sorted(long):
        return []
    return steps.transposed(outs[0].dtype, _count(outs[0]), outs[0].nbytes / max(_count(outs[0]), 1))


def _convert(ins: Sequence[Operand], outs: Sequence[Operand], _: Mapping[str, Any]) -> list[Step]:
    return steps.converted(ins[0].dtype, outs[0].dtype, _count(outs[0]))


def _sort(ins: Sequence[Operand], _: Sequence[Operand], params: Mapping[str, Any]) -> list[Step]:
    shape = ins[0].shape
    return steps.sorted_rows(ins[0].dtype, shape, params["dimension"], len(shape) - 1, len(ins))


def _top(ins: Sequence[Operand], outs: Sequence[Operand], _: Mapping[str, Any]) -> list[Step]:
    return steps.top(ins[0].dtype, ins[0].shape, outs[0].shape[-1])


def _fft(ins: Sequence[Operand], outs: Sequence[Operand], params: Mapping[str, Any]) -> list[Step]:
    real = ins[0].dtype != outs[0].dtype
    elements = max(_count(ins[0]), _count(outs[0])) / (2 if real else 1)
    return steps.transform("c64", elements, prod(params["fft_lengths"]))


def _solve(ins: Sequence[Operand], _: Sequence[Operand], __: Mapping[str, Any]) -> list[Step]:
    return steps.factorisation("trsm", ins[0].dtype, ins[0].shape, ins[1].shape[-1] if len(ins[1].shape) > 1 else 1)


def _random(_: Sequence[Operand], outs: Sequence[Operand], __: Mapping[str, Any]) -> list[Step]:
    # XLA expands threefry into a loop over its rounds, whose kernels pass all words through memory.
    return [Step("random", "u32", _count(outs[0]), _count(outs[0]))]


def _qr(ins: Sequence[Operand], _: Sequence[Operand], __: Mapping[str, Any]) -> list[Step]:
    return [step for name in ("geqrf", "orgqr") for step in steps.factorisation(name, ins[0].dtype, ins[0].shape)]


def _minor(operand: Operand) -> int:
    dims = operand.shape
    return next((axis for axis in reversed(range(len(dims))) if dims[axis] > 1), max(len(dims) - 1, 0))


_Reader = Callable[[Sequence[Operand], Sequence[Operand], Mapping[str, Any]], list[Step]]
_READERS: Final[Mapping[str, _Reader]] = {
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"), _reduce),
    **dict.fromkeys(("argmax", "argmin"), _argument),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _cumulative),
    **dict.fromkeys(("reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window"), _window),
    **dict.fromkeys(("scatter", "scatter-add", "scatter_add", "scatter_mul", "scatter_min", "scatter_max"), _scatter),
    **dict.fromkeys(("random_bits", "threefry2x32", "random_split", "random_fold_in"), _random),
    "reduce": _reduce,
    "reduce_xor": _reduce,
    "select_and_scatter_add": _window,
    "select_and_gather_add": _window,
    "gather": _gather,
    "dynamic_update_slice": _update,
    "transpose": _transpose,
    "convert_element_type": _convert,
    "sort": _sort,
    "top_k": _top,
    "fft": _fft,
    "qr": _qr,
    "triangular_solve": _solve,
}
