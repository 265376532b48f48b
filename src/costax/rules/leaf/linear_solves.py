"""Solutions of triangular and tridiagonal linear systems."""

from __future__ import annotations

from math import prod

from costax.core.cost import Cost
from costax.core.equation import Equation
from costax.rules.registry import cost_rule
from costax.rules.traits import OPAQUE, Implementation, Traits


@cost_rule(
    "triangular_solve",
    traits=Traits(
        unmodelled=True, implementation=Implementation.FACTORIZATION, xla="HandleTriangularSolve: 2 n elements of b"
    ),
)
def triangular_solve(eqn: Equation) -> Cost:
    """Each right-hand side of a triangular system of order n takes n divisions and n(n - 1)/2 multiply-subtracts.

    operations = n^2 for each right-hand side, n^2 - n with a unit diagonal.
    Source: LAPACK Working Note 41, trsm; Golub and Van Loan, 3.1.
    XLA: a custom call of a BLAS, -1 FLOP; where it stays an HLO operation, HandleTriangularSolve counts 2n^2: the
    zero half of the matrix too.
    """
    a, b = eqn.inputs
    n = a.shape[-1]
    # b is (n, sides) or, from the right, (sides, n): each of its n-vectors is one right-hand side.
    per_element = n - 1 if eqn.params["unit_diagonal"] else n
    return Cost.arithmetic(b.dtype, b.size * per_element)


@cost_rule("tridiagonal_solve", traits=OPAQUE)
def tridiagonal_solve(eqn: Equation) -> Cost:
    """The Thomas algorithm: 3(n - 1) operations for the matrix and 5n - 4 for each right-hand side, 8n - 7 for one.

    Source: S. Conte, C. de Boor, "Elementary numerical analysis", 3rd ed. (1980), algorithm 4.3.
    XLA: a cuSPARSE custom call, -1 FLOP, or two loops, their bodies counted once.
    """
    *batch, n, sides = eqn.inputs[3].shape
    return Cost.arithmetic(eqn.out.dtype, prod(batch) * (3 * (n - 1) + sides * (5 * n - 4)) if n else 0)
