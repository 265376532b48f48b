"""Eigenvalues and singular values, and the tridiagonal, Hessenberg and Schur forms.

Iterative algorithms have no exact count. Theirs is the count of the textbook, for the number of iterations that
matrices need in practice. Fractions are rounded down. Source: G. Golub, C. Van Loan, "Matrix computations", 4th ed.
(2013).
"""

from __future__ import annotations

from costax.core.cost import Cost
from costax.core.equation import Equation
from costax.core.polynomial import maximum, minimum
from costax.rules.leaf._matrix_sums import matrix
from costax.rules.registry import cost_rule
from costax.rules.traits import OPAQUE, Implementation, Traits


@cost_rule("tridiagonal", traits=OPAQUE)
def tridiagonal(eqn: Equation) -> Cost:
    """A symmetric matrix of order n is made tridiagonal by n - 2 reflections; Q is not formed.

    operations = 4n^3/3 + 7n^2/2 - 17n/6 - 19, n - 2 of them square roots. Source: LAPACK Working Note 41, sytrd.
    XLA: a LAPACK or cuSOLVER custom call, -1 FLOP.
    """
    batch, n, _ = matrix(eqn.inputs[0])
    return _condensed(eqn, n, (8 * n * n * n + 21 * n * n - 17 * n - 114) // 6) * batch


@cost_rule("hessenberg", traits=OPAQUE)
def hessenberg(eqn: Equation) -> Cost:
    """A matrix of order n is reduced to Hessenberg form by n - 2 reflections; Q is not formed.

    operations = 10n^3/3 - n^2/2 - 11n/6 - 21, n - 2 of them square roots. Source: LAPACK Working Note 41, gehrd.
    XLA: a LAPACK custom call, -1 FLOP.
    """
    batch, n, _ = matrix(eqn.inputs[0])
    return _condensed(eqn, n, (20 * n * n * n - 3 * n * n - 11 * n - 126) // 6) * batch


def _condensed(eqn: Equation, n: int, operations: int) -> Cost:
    roots = maximum(n - 2, 0)
    dtype = eqn.inputs[0].dtype
    return Cost.arithmetic(dtype, operations - roots if roots else 0) + Cost.transcendental(dtype, roots)


@cost_rule("eigh", traits=Traits(unmodelled=True, implementation=Implementation.FACTORIZATION))
def eigh(eqn: Equation) -> Cost:
    """Eigenvalues and eigenvectors of a symmetric matrix of order n by the QR algorithm: 9n^3 operations.

    Reduction to tridiagonal form, the orthogonal matrix formed, implicit QR steps applied to it. An estimate: it
    iterates. Divide and conquer may take fewer, the Jacobi method of TPUs takes more. jax always computes the vectors.
    Source: Golub and Van Loan, 8.3.3 (algorithm 8.3.3).
    XLA: a LAPACK or cuSOLVER custom call, -1 FLOP; on TPU a loop, its body counted once.
    """
    batch, n, _ = matrix(eqn.inputs[0])
    return Cost.arithmetic(eqn.inputs[0].dtype, batch * 9 * n * n * n)


@cost_rule("schur", traits=OPAQUE)
def schur(eqn: Equation) -> Cost:
    """Schur form of a matrix of order n by the Francis QR algorithm: 25n^3 operations, 10n^3 without Schur vectors.

    Hessenberg reduction included. An estimate: it iterates. Source: Golub and Van Loan, 7.5.6 (algorithm 7.5.2).
    XLA: a LAPACK custom call, -1 FLOP.
    """
    batch, n, _ = matrix(eqn.inputs[0])
    return Cost.arithmetic(eqn.inputs[0].dtype, batch * (25 if eqn.params["compute_schur_vectors"] else 10) * n * n * n)


@cost_rule("eig", traits=OPAQUE)
def eig(eqn: Equation) -> Cost:
    """Eigenvalues of a general matrix of order n: 10n^3 operations; with eigenvectors 25n^3, and 4n^3/3 for each side.

    The Francis QR algorithm, which iterates: an estimate. Eigenvectors need the Schur form (25n^3), n triangular
    systems (n^3/3) and a product with the Schur vectors (n^3), once for left and once for right ones.
    Source: Golub and Van Loan, 7.5.6 and 7.6.4; LAPACK geev and trevc.
    XLA: a LAPACK custom call, -1 FLOP.
    """
    batch, n, _ = matrix(eqn.inputs[0])
    sides = eqn.params["compute_left_eigenvectors"] + eqn.params["compute_right_eigenvectors"]
    cubes = 3 * 25 + 4 * sides if sides else 3 * 10
    return Cost.arithmetic(eqn.inputs[0].dtype, batch * (cubes * n * n * n // 3))


@cost_rule("svd", traits=Traits(unmodelled=True, implementation=Implementation.FACTORIZATION))
def svd(eqn: Equation) -> Cost:
    """Singular value decomposition of an m x n matrix, m >= n: by Golub and Reinsch, or by QR first where that is less.

    | wanted           | Golub-Reinsch         | QR first        |
    |---|---|---|
    | values           | 4mn^2 - 4n^3/3        | 2mn^2 + 2n^3    |
    | thin U and V     | 14mn^2 + 8n^3         | 6mn^2 + 20n^3   |
    | square U and V   | 4m^2n + 8mn^2 + 9n^3  | 4m^2n + 22n^3   |

    A wide matrix costs what its transpose does. An estimate: it iterates, and other methods (`algorithm`: divide and
    conquer, Jacobi, polar) differ by a factor of a few. Source: Golub and Van Loan, figure 8.6.1.
    XLA: a LAPACK or cuSOLVER custom call, -1 FLOP; on TPU a loop, its body counted once.
    """
    batch, rows, columns = matrix(eqn.inputs[0])
    m, n = maximum(rows, columns), minimum(rows, columns)
    if not eqn.params["compute_uv"]:
        direct, qr_first = 4 * m * n * n - 4 * n * n * n // 3, 2 * m * n * n + 2 * n * n * n
    elif eqn.params["full_matrices"] and m != n:
        direct = 4 * m * m * n + 8 * m * n * n + 9 * n * n * n
        qr_first = 4 * m * m * n + 22 * n * n * n
    else:
        direct, qr_first = 14 * m * n * n + 8 * n * n * n, 6 * m * n * n + 20 * n * n * n
    return Cost.arithmetic(eqn.inputs[0].dtype, batch * minimum(direct, qr_first))
