"""Worked examples of linear algebra. XLA does not know the work of library calls."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from costax.rules.examples import Differs, case, differs

_WHY = "a LAPACK custom call counts -1, its check 1, and the masks of its results a few operations an element"


def _library(masks: int) -> Differs:
    """XLA's count of a LAPACK call and the check of its status: only the masks count."""
    return differs(_WHY, flops=-1 + 1 + masks, transcendentals=0)


CASES = (
    case(
        "cholesky",
        lambda a: lax.linalg.cholesky(a, symmetrize_input=False),
        "f32[12,12]",
        flops=(2 * 12**3 + 3 * 12**2 - 5 * 12) // 6,
        transcendentals=12,
        xla=_library(3 * 12**2),
        note="n^3 / 3 to leading order; the square roots count as transcendentals",
    ),
    case(
        "lu",
        lambda a: lax.linalg.lu(a),
        "f32[12,12]",
        flops=(4 * 12**3 - 3 * 12**2 + 5 * 12) // 6,
        xla=differs("a LAPACK custom call counts -1; masks and pivots are added", flops=12**2 + 12 + 18),
        note="2 n^3 / 3 to leading order",
    ),
    case(
        "qr",
        lambda a: lax.linalg.qr(a, full_matrices=False),
        "f32[12,12]",
        flops=(8 * 12**3 + 12 * 12**2 + 28 * 12) // 6 - 12 + (8 * 12**3 + 6 * 12**2 - 8 * 12) // 6,
        transcendentals=12,
        xla=differs("two LAPACK custom calls count -1 each; masks are added", flops=3 * 12**2 - 2, transcendentals=0),
        note="8 n^3 / 3 to leading order: the reflections, then Q",
    ),
    case(
        "geqrf",
        lambda a: jnp.linalg.qr(a, mode="raw"),
        "f32[12,12]",
        flops=(8 * 12**3 + 12 * 12**2 + 28 * 12) // 6 - 12,
        transcendentals=12,
        xla=differs("a LAPACK custom call counts -1", flops=-1, transcendentals=0),
        note="4 n^3 / 3 to leading order",
    ),
    case(
        "householder_product",
        lambda a, t: lax.linalg.householder_product(a, t),
        "f32[12,8]",
        "f32[8]",
        flops=sum((4 * length + 1) * (length - 5) + length for length in range(5, 13)),
        xla=differs("a LAPACK custom call counts -1", flops=-1),
        note="reflection i has the length 12 - i, and 8 - i - 1 columns to its right",
    ),
    case(
        "cholesky_update",
        lambda r, w: lax.linalg.cholesky_update(r, w),
        "f32[12,12]",
        "f32[12]",
        flops=3 * 12**2 + 2 * 12,
        transcendentals=12,
        xla=differs("a loop whose body works on whole rows", flops=7 * 12**2),
    ),
    case(
        "triangular_solve",
        lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True, lower=True),
        "f32[12,12]",
        "f32[12,5]",
        flops=5 * 12**2,
        xla=differs("a BLAS custom call counts -1", flops=-1),
    ),
    case(
        "tridiagonal_solve",
        lambda a, b, c, d: lax.linalg.tridiagonal_solve(a, b, c, d),
        "f32[12]",
        "f32[12]",
        "f32[12]",
        "f32[12,1]",
        flops=8 * 12 - 7,
        xla=_library(12),
    ),
    case(
        "svd",
        lambda a: lax.linalg.svd(a, full_matrices=False),
        "f32[20,12]",
        flops=6 * 20 * 12**2 + 20 * 12**3,
        xla=_library(20 * 12 + 12**2 + 12),
    ),
    case("svd", lambda a: jnp.linalg.svdvals(a), "f32[12,12]", flops=4 * 12**3 - 4 * 12**3 // 3, xla=_library(12)),
    case(
        "eigh",
        lambda a: lax.linalg.eigh(a, symmetrize_input=False),
        "f32[12,12]",
        flops=9 * 12**3,
        xla=_library(12**2 + 12),
    ),
    case("eig", lambda a: jnp.linalg.eigvals(a), "f32[12,12]", flops=10 * 12**3, xla=_library(2 * 12)),
    case("hessenberg", lambda a: lax.linalg.hessenberg(a), "f32[12,12]", transcendentals=10, xla=_library(12**2 + 11)),
    case("schur", lambda a: lax.linalg.schur(a), "f32[12,12]", flops=25 * 12**3, xla=_library(2 * 12**2)),
    case(
        "tridiagonal",
        lambda a: lax.linalg.tridiagonal(a),
        "f32[12,12]",
        transcendentals=10,
        xla=_library(12**2 + 12 + 2 * 11),
    ),
)
