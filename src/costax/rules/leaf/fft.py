"""Fourier transforms."""

from __future__ import annotations

from math import prod

from costax.core import dtypes
from costax.core.cost import Cost, Count
from costax.core.equation import Equation
from costax.core.polynomial import apply_function
from costax.rules.registry import cost_rule
from costax.rules.traits import OPAQUE


@cost_rule(
    "fft", traits=OPAQUE.but(xla="HandleFft: 8 n times the product, not the sum, of the logarithms of the extents")
)
def fft(eqn: Equation) -> Cost:
    """A transform of N points takes 5 N log2 N real operations, and half of them where one side is real.

    N is the product of the transform lengths, whatever their number; times batch. Where N is no power of two,
    5 N log2 N (or its half) is rounded up to an integer for each transform. Filed under the real dtype, because
    the formula counts operations on real numbers. Source: the convention of FFTW's benchmarks, which is the radix-2
    count.
    XLA: HandleFft counts 8 * |input| * floor(log2 n) for every kind, and multiplies the logarithms of several lengths
    where it should add them: 8 * |input| * log2 n1 * log2 n2.
    """
    lengths = eqn.params["fft_lengths"]
    points = prod(lengths)
    kind = getattr(eqn.params["fft_type"], "name", str(eqn.params["fft_type"])).upper()
    # A real transform has N real points on one side and half of the spectrum on the other.
    real = eqn.inputs[0] if kind == "RFFT" else eqn.out
    each = operations(points, halved=kind in ("RFFT", "IRFFT"))
    return Cost.arithmetic(_real_dtype(eqn.out.dtype), prod(real.shape[: len(real.shape) - len(lengths)]) * each)


def operations(points: Count, *, halved: bool = False) -> Count:
    """Return 5 N log2 N, or half of it, rounded up to an integer; exact for any N.

    >>> operations(8), operations(8, halved=True), operations(3), operations(1)
    (120, 60, 24, 0)
    """
    return apply_function("ceil_log2_of_power", points, 5 * points, 2 if halved else 1)


def _real_dtype(dtype: str) -> str:
    return f"f{dtypes.bits(dtype) // 2}" if dtypes.is_complex(dtype) else dtype
