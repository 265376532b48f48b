"""Factorisations of matrices: Cholesky, LU and QR.

Square roots count as transcendentals; the totals of the literature include them. Operations on complex numbers count as
one operation. Source: S. Blackford, J. Dongarra, "Installation guide for LAPACK", LAPACK Working
Note 41 (1999), appendix C; G. Golub, C. Van Loan, "Matrix computations", 4th ed. (2013).
"""

from __future__ import annotations

from costax.core.cost import Cost, Count
from costax.core.equation import Equation
from costax.core.polynomial import minimum
from costax.rules.leaf._matrix_sums import descending, matrix, products
from costax.rules.registry import cost_rule, free
from costax.rules.traits import OPAQUE, Implementation, Traits


@cost_rule(
    "cholesky",
    traits=Traits(
        overwrites=True,
        unmodelled=True,
        implementation=Implementation.FACTORIZATION,
        xla="HandleCholesky: n^3/3 without the lower terms",
    ),
)
def cholesky(eqn: Equation) -> Cost:
    """A symmetric matrix of order n is factorised into L L^T: n^3 / 3 operations to leading order.

    arithmetic = n^3/3 + n^2/2 - 5n/6, and n square roots. Source: LAPACK Working Note 41, potrf.
    XLA: a LAPACK or cuSOLVER custom call, -1 FLOP; where it stays an HLO operation, HandleCholesky counts n^3 / 3.
    """
    batch, n, _ = matrix(eqn.inputs[0])
    dtype = eqn.inputs[0].dtype
    arithmetic = (2 * n * n * n + 3 * n * n - 5 * n) // 6
    return Cost.arithmetic(dtype, batch * arithmetic) + Cost.transcendental(dtype, batch * n)


@cost_rule("cholesky_update", traits=OPAQUE)
def cholesky_update(eqn: Equation) -> Cost:
    """A Cholesky factor of order n is updated by n plane rotations.

    Rotation k costs 5 operations and a square root, and 6 for each of the n - k - 1 columns that it rotates:
    arithmetic = 3n^2 + 2n, and n square roots. Source: Golub and Van Loan, 6.5.4; LINPACK chud.
    XLA: a loop of the same rotations, whose body is counted once.
    """
    batch, n, _ = matrix(eqn.inputs[0])
    dtype = eqn.inputs[0].dtype
    return Cost.arithmetic(dtype, batch * (3 * n * n + 2 * n)) + Cost.transcendental(dtype, batch * n)


@cost_rule("lu", traits=Traits(overwrites=True, unmodelled=True, implementation=Implementation.FACTORIZATION))
def lu(eqn: Equation) -> Cost:
    """Gaussian elimination with partial pivoting: 2n^3 / 3 operations for a square matrix, to leading order.

    Step k of min(m, n) takes one reciprocal, m - k - 1 multiplications of the column below the pivot, as many multiply-
    subtracts for each of the n - k - 1 columns to its right, and m - k - 1 comparisons to find the pivot.
    Source: LAPACK Working Note 41, getrf, which has the same count for m >= n.
    XLA: a LAPACK or cuSOLVER custom call, -1 FLOP; on TPU a custom call that the compiler implements.
    """
    batch, m, n = matrix(eqn.inputs[0])
    dtype, steps = eqn.inputs[0].dtype, minimum(m, n)
    arithmetic = steps + descending(m - 1, steps) + 2 * products(m - 1, n - 1, steps)
    return Cost.arithmetic(dtype, batch * arithmetic) + Cost.compare(dtype, batch * descending(m - 1, steps))


free(
    "lu_pivots_to_permutation",
    because="Indices of rows are swapped, without arithmetic. XLA: a loop of swaps, its body counted once.",
    traits=OPAQUE,
)


def reflections(m: Count, n: Count, steps: int) -> Count:
    """Return the operations of `steps` Householder reflections that triangularise an m x n matrix, roots included.

    Building one of length l takes 3l + 5, applying it to a column 4l + 1. Source: LAPACK Working Note 41, geqrf.
    """
    building = 3 * descending(m, steps) + 5 * steps
    return building + 4 * products(m, n - 1, steps) + descending(n - 1, steps)


def explicit_q(m: Count, n: Count, steps: int) -> Count:
    """Return the operations that form n columns of Q from its reflections. Source: LAPACK Working Note 41, orgqr."""
    return 4 * products(m, n - 1, steps) + descending(n - 1, steps) + descending(m, steps)


def pivoting(m: Count, n: Count, steps: int, dtype: str) -> Cost:
    """Return what column pivoting adds: n norms, then at each step a downdate and a comparison a remaining column.

    A norm takes 2m - 1 operations and a root, a downdate 4 and a root. Source: LAPACK laqp2; Golub and Van Loan, 5.4.2.
    """
    remaining = descending(n - 1, steps)
    return (
        Cost.arithmetic(dtype, n * (2 * m - 1) + 4 * remaining)
        + Cost.transcendental(dtype, n + remaining)
        + Cost.compare(dtype, remaining)
    )


@cost_rule("geqrf", traits=Traits(overwrites=True, unmodelled=True, implementation=Implementation.FACTORIZATION))
@cost_rule("geqp3", traits=OPAQUE)
def geqrf(eqn: Equation) -> Cost:
    """Householder QR: 2mn^2 - 2n^3/3 operations to leading order for m >= n, Q left as reflections.

    Reflection k of min(m, n), of length l = m - k, takes 3l + 5 operations, one of them a square root, and 4l + 1 for
    each of the n - k - 1 columns to its right. With column pivoting (`geqp3`) also n norms of 2m - 1 operations and a
    root, and at each step a comparison, 4 operations and a root for each remaining column.
    Source: LAPACK Working Note 41, geqrf.
    XLA: a LAPACK or cuSOLVER custom call, -1 FLOP; on TPU a loop of reflections, its body counted once.
    """
    batch, m, n = matrix(eqn.inputs[0])
    cost = _triangularised(eqn.inputs[0].dtype, m, n)
    if eqn.name == "geqp3":
        cost += pivoting(m, n, minimum(m, n), eqn.inputs[0].dtype)
    return cost * batch


def _triangularised(dtype: str, m: Count, n: Count) -> Cost:
    steps = minimum(m, n)
    return Cost.arithmetic(dtype, reflections(m, n, steps) - steps) + Cost.transcendental(dtype, steps)


@cost_rule("householder_product", traits=Traits(unmodelled=True, implementation=Implementation.FACTORIZATION))
def householder_product(eqn: Equation) -> Cost:
    """The first n columns of Q are formed from k reflections: 4mnk - 2(m + n)k^2 + 4k^3/3 operations to leading order.

    Reflection i, of length l = m - i, takes 4l + 1 operations for each of the n - i - 1 columns to its right, and l for
    its own. Source: LAPACK Working Note 41, orgqr.
    XLA: a LAPACK or cuSOLVER custom call, -1 FLOP.
    """
    batch, m, n = matrix(eqn.inputs[0])
    return Cost.arithmetic(eqn.inputs[0].dtype, batch * explicit_q(m, n, eqn.inputs[1].shape[-1]))


@cost_rule("ormqr", traits=OPAQUE)
def ormqr(eqn: Equation) -> Cost:
    """Q, as k reflections, is applied to a matrix: one of length l takes 4l + 1 operations a column (or row).

    With Q of order m and n columns, operations = n k (4m - 2k + 3). Source: LAPACK Working Note 41, ormqr.
    XLA: a LAPACK or cuSOLVER custom call, -1 FLOP.
    """
    batch, rows, columns = matrix(eqn.inputs[2])
    order, vectors = (rows, columns) if eqn.params["left"] else (columns, rows)
    steps = eqn.inputs[1].shape[-1]
    return Cost.arithmetic(eqn.inputs[2].dtype, batch * vectors * (4 * descending(order, steps) + steps))


@cost_rule("qr", traits=Traits(overwrites=True, unmodelled=True, implementation=Implementation.FACTORIZATION))
def qr(eqn: Equation) -> Cost:
    """Householder QR with Q formed: the costs of `geqrf` (or `geqp3`) and of `householder_product`.

    4mn^2 - 4n^3/3 operations to leading order for m >= n; with `full_matrices` Q has m columns instead of n.
    Source: LAPACK Working Note 41, geqrf and orgqr.
    XLA: two LAPACK or cuSOLVER custom calls, -1 FLOP each.
    """
    batch, m, n = matrix(eqn.inputs[0])
    dtype, q_columns, steps = eqn.inputs[0].dtype, eqn.out.shape[-1], minimum(m, n)
    cost = _triangularised(dtype, m, n) + Cost.arithmetic(dtype, explicit_q(m, q_columns, steps))
    if eqn.params["pivoting"]:
        cost += pivoting(m, n, steps, dtype)
    return cost * batch
