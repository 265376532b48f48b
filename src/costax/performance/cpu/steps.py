"""Steps: what one kernel of a CPU does, in the terms that a calibration measures.

A kernel's time on a CPU is the sum of its steps, for a core runs them one after the other: so many exponentials, a sort
of so many rows of such a length, a product of these sizes. A step names the table of measured rates that it takes, how
many units it is, and the place in the table. The instructions of a compiled module and the equations of a jaxpr become
the same steps (`costax.performance.cpu.of_instructions`, `costax.performance.cpu.of_ops`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2, prod
from typing import Final, NamedTuple


class Step(NamedTuple):
    """Work of one kind.

    table: of rates, such as "elementwise.tanh" or "sort.rows". dtype: of HLO. units: of the table, per second of one
    processor. size: where in the table.
    """

    table: str
    dtype: str
    units: float
    size: float = 1.0

    @property
    def is_threaded(self) -> bool:
        """Whether the threads of LAPACK share it: a factorisation of a matrix with so many rows."""
        return self.table.startswith("library.") and self.size >= _THREADED


# Rows of a matrix from which OpenBLAS divides a factorisation, of which jaxlib has the routines of LAPACK.
_THREADED: Final = 64

# Elementwise operations that take about as long as an addition, in HLO's names.
CHEAP: Final = frozenset(
    {
        *("add", "subtract", "multiply", "maximum", "minimum", "compare", "select", "and", "or", "xor", "not"),
        *("shift-left", "shift-right-logical", "shift-right-arithmetic", "negate", "abs", "clamp", "is-finite"),
        *("sign", "iota", "real", "imag", "complex", "reduce-precision", "bitcast-convert", "stochastic-convert"),
    }
)
# Elementwise operations with a table of their own.
NAMED: Final = frozenset(
    {
        *("divide", "remainder", "sqrt", "rsqrt", "cbrt", "exponential", "exponential-minus-one", "log"),
        *("log-plus-one", "logistic", "tanh", "sine", "cosine", "tan", "atan2", "power", "erf", "floor"),
        *("acos", "acosh", "asin", "asinh", "atanh", "cosh", "sinh"),
    }
)
# Operations that take as long as another one.
_ALIKE: Final[Mapping[str, str]] = {
    "ceil": "floor",
    "round-nearest-even": "floor",
    "round-nearest-afz": "floor",
    "popcnt": "divide",
    "count-leading-zeros": "divide",
    "acosh": "atan2",
    "acos": "atan2",
    "asin": "atan2",
    "asinh": "atan2",
    "atanh": "atan2",
    "cosh": "exponential",
    "sinh": "exponential",
    "tan": "sine",
}
_PARTS: Final[Mapping[str, str]] = {"c64": "f32", "c128": "f64"}
MOVES: Final = frozenset({"pad", "concatenate", "reverse", "dynamic-slice", "dynamic-update-slice"})
"""Instructions that copy elements to another place; in a kernel with others they hinder vector instructions."""


def elementwise(opcode: str, dtype: str, elements: float) -> list[Step]:
    """Return the step of an elementwise operation; [] for an opcode that is none, and for a scalar."""
    opcode = _ALIKE.get(opcode, opcode)
    if elements <= 1:
        return []
    if opcode == "remainder" and dtype[0] in "iu":
        opcode = "divide"
    if opcode in NAMED or (opcode in ("abs", "multiply") and dtype.startswith("c")):
        return [Step(f"elementwise.{opcode}", dtype, elements)]
    return [Step("elementwise.add", dtype, elements)] if opcode in CHEAP else []


def converted(source: str, target: str, elements: float) -> list[Step]:
    """Return the step of a conversion, whose table has the dtype that is not float32."""
    if elements <= 1:
        return []
    return [Step("elementwise.convert", source if target in ("f32", "f64") else target, elements)]


def reduction(
    dtype: str, dims: Sequence[int], axes: Sequence[int], minor: int, *, operands: int = 1, inputs: float = 0
) -> list[Step]:
    """Return the steps of a reduction. minor: the dimension whose elements are neighbours. operands: of the reduction.

    inputs: elements, where they are not those of `dims`.
    """
    elements, length = inputs or prod(dims), prod(dims[axis] for axis in axes)
    if elements <= 1 or length <= 1:
        return []
    if operands > 1:
        return [Step("reduce.variadic", dtype, elements, length)]
    # Axes of one element are nowhere: the neighbours are along the last axis that is longer.
    if length == prod(dims):
        return [Step("reduce.all", dtype, elements, length)]
    return [Step("reduce.rows" if minor in axes else "reduce.columns", dtype, elements, length)]


def windowed(dtype: str, outputs: float, window: int, operands: int = 1, *, strided: bool = False) -> list[Step]:
    """Return the steps of a reduction of windows. window: elements of one. strided: windows are not at every place."""
    return [Step("reduce.strides" if strided else "reduce.windows", dtype, outputs * window * operands, window)]


def gathered(dtype: str, elements: float, width: float) -> list[Step]:
    """Return the steps of a gather. width: elements that lie together, of one index."""
    return [Step("gather", dtype, elements, max(width, 1))]


def scattered(dtype: str, elements: float, width: float) -> list[Step]:
    """Return the steps of a scatter. elements: of the updates. width: those of one index."""
    return [Step("scatter", dtype, elements, max(width, 1))]


def transposed(dtype: str, elements: float, itemsize: float) -> list[Step]:
    """Return the steps of writing elements in another order."""
    return [Step("move.transpose", dtype, elements, elements * itemsize)] if elements > 1 else []


def sorted_rows(dtype: str, dims: Sequence[int], axis: int, minor: int, operands: int) -> list[Step]:
    """Return the steps of a sort along an axis, n log2 n for each row of n. operands: arrays sorted together."""
    n = dims[axis] if dims else 1
    if n < 2:
        return []
    table = "sort.pairs" if operands > 1 else "sort.rows" if axis == minor else "sort.columns"
    return [Step(table, dtype, prod(dims) * log2(n), n)]


def top(dtype: str, dims: Sequence[int], chosen: int) -> list[Step]:
    """Return the steps of finding the largest elements of each row: to look at all, and to keep the chosen in order."""
    elements, n = prod(dims), dims[-1] if dims else 1
    return [Step("sort.top", dtype, elements), Step("sort.chosen", dtype, elements / max(n, 1) * chosen)]


def transform(dtype: str, elements: float, length: float) -> list[Step]:
    """Return the steps of Fourier transforms. elements: of the larger side. length: elements of one transform."""
    return [Step("fft", dtype, elements * log2(max(length, 2)), length)]


def factorisation(routine: str, dtype: str, dims: Sequence[int], others: float = 0) -> list[Step]:
    """Return the steps of a routine of LAPACK. dims: of its matrices, batches first. others: columns of the solution.

    Units are rows * columns * the smaller of them, for a triangular solve rows * rows * columns of the solution.
    """
    *batch, m, n = (1, 1, *dims)[-max(len(dims), 2) :]
    small = min(m, n)
    units = m * m * others if routine == "trsm" else m * n * small
    return [Step(f"library.{routine}", dtype, prod(batch) * units, small)]


def product(dtype: str, batch: float, m: float, n: float, k: float) -> list[Step]:
    """Return the steps of batch products (m, k) x (k, n); units are FLOPs."""
    flops = 2 * batch * m * n * k
    if dtype in _PARTS:
        # A complex product is four real ones.
        return [step._replace(units=4 * step.units) for step in product(_PARTS[dtype], batch, m, n, k)]
    if batch > 1:
        return [Step("product.batched", dtype, flops, 2 * m * n * k)]
    return [Step(f"product.{min(m, n, k):g}", dtype, flops, flops)]


def convolution(
    dtype: str, sizes: tuple[float, float, float, float], rank: int, *, fused: bool, holes: bool = False
) -> list[Step]:
    """Return the steps of a convolution; units are FLOPs, of a depthwise one in a library sums of its taps.

    sizes: groups, positions, output features of a group, and products summed for each. rank: dimensions of the image.
    fused: by XLA into a kernel of its library. holes: of a transposed convolution.
    """
    groups, m, n, k = sizes
    flops, channels = 2 * groups * m * n * k, min(n, k)
    if groups > 1:
        if fused:
            # XLA's library has no such convolution: it computes a product for each output, whose start takes longer
            # than its few taps.
            return [Step("convolution.depthwise", dtype, groups * m * n, k)]
        kind = "grouped"
    elif fused:
        kind = "fused"
    else:
        kind = "transposed" if holes else f"{min(rank, 3)}d"
    return [Step(f"convolution.{kind}", dtype, flops, channels)]
