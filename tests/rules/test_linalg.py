"""Linear algebra: scalar algorithms, run on numbers that count, and LAPACK Working Note 41's polynomials."""

from __future__ import annotations

from fractions import Fraction

import jax
import numpy as np
import pytest
from jax import lax

import costax
from costax.core.cost import Cost

ORDERS = range(1, 7)
SHAPES = [(m, n) for m in range(1, 7) for n in range(1, 7)]


class Tally:
    def __init__(self):
        self.arithmetic = self.roots = 0


class Number:
    """A number that counts what is done with it."""

    def __init__(self, value, tally):
        self.value, self.tally = float(value), tally

    def _operate(self, value):
        self.tally.arithmetic += 1
        return Number(value, self.tally)

    def __add__(self, other):
        return self._operate(self.value + other.value)

    def __sub__(self, other):
        return self._operate(self.value - other.value)

    def __mul__(self, other):
        return self._operate(self.value * other.value)

    def __truediv__(self, other):
        return self._operate(self.value / other.value)

    def sqrt(self):
        self.tally.roots += 1
        return Number(self.value**0.5, self.tally)


def numbers(values, tally):
    return np.vectorize(lambda value: Number(value, tally), otypes=[object])(values)


def values(matrix):
    return np.vectorize(lambda number: number.value if isinstance(number, Number) else number, otypes=[float])(matrix)


def random(*shape):
    return np.random.default_rng(0).normal(size=shape)


def total(function, *shapes: str) -> Cost:
    return costax.analyze(function)(*map(costax.spec, shapes)).total


def tallied(tally: Tally):
    return tally.arithmetic, tally.roots


def cholesky(a):
    n = len(a)
    for k in range(n):
        a[k, k] = a[k, k].sqrt()
        for i in range(k + 1, n):
            a[i, k] = a[i, k] / a[k, k]
        for j in range(k + 1, n):
            for i in range(j, n):
                a[i, j] = a[i, j] - a[i, k] * a[j, k]
    return a


@pytest.mark.parametrize("n", ORDERS)
def test_cholesky_takes_what_a_scalar_cholesky_takes(n):
    tally, x = Tally(), random(n, n)
    x = x @ x.T + n * np.eye(n)
    factor = cholesky(numbers(x, tally))
    np.testing.assert_allclose(np.tril(values(factor)), np.linalg.cholesky(x))
    cost = total(lambda a: lax.linalg.cholesky(a, symmetrize_input=False), f"f32[{n},{n}]")
    assert (cost.flops, cost.transcendentals) == tallied(tally)
    assert cost.flops + cost.transcendentals == Fraction(n**3, 3) + Fraction(n**2, 2) + Fraction(n, 6)


def eliminated(a, one):
    m, n = a.shape
    for k in range(min(m, n)):
        reciprocal = one / a[k, k]
        for i in range(k + 1, m):
            a[i, k] = a[i, k] * reciprocal
            for j in range(k + 1, n):
                a[i, j] = a[i, j] - a[i, k] * a[k, j]
    return a


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_lu_takes_what_a_scalar_elimination_takes(m, n):
    tally, x = Tally(), random(m, n) + 6 * np.eye(m, n)
    result = values(eliminated(numbers(x, tally), Number(1, tally)))
    lower = np.tril(result[:, : min(m, n)], -1) + np.eye(m, min(m, n))
    np.testing.assert_allclose(lower @ np.triu(result[: min(m, n)]), x)
    cost = total(lax.linalg.lu, f"f32[{m},{n}]")
    assert cost.flops == tally.arithmetic
    if m >= n:
        # FMULS_GETRF + FADDS_GETRF of LAPACK Working Note 41.
        half, third = Fraction(1, 2), Fraction(1, 3)
        multiplications = half * n * (n * (m - third * n - 1) + m) + 2 * third * n
        additions = half * n * (n * (m - third * n) - m) + third * n / 2
        assert cost.flops == multiplications + additions


def test_lu_compares_every_candidate_for_a_pivot():
    comparisons = sum(6 - k - 1 for k in range(4))
    assert total(lax.linalg.lu, "f32[6,4]").of_kind("compare") == comparisons


def working_note_geqrf(m, n):
    half, third = Fraction(1, 2), Fraction(1, 3)
    if m > n:
        multiplications = n * (n * (half - third * n + m) + m + Fraction(23, 6))
        return multiplications + n * (n * (half - third * n + m) + Fraction(5, 6))
    multiplications = m * (m * (-half - third * m + n) + 2 * n + Fraction(23, 6))
    return multiplications + m * (m * (-half - third * m + n) + n + Fraction(5, 6))


def working_note_orgqr(m, n, k):
    two_thirds, third = Fraction(2, 3), Fraction(1, 3)
    multiplications = k * (2 * m * n + 2 * n - 5 * third + k * (two_thirds * k - (m + n) - 1))
    return multiplications + k * (2 * m * n + n - m + third + k * (two_thirds * k - (m + n)))


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_qr_is_what_the_working_note_says(m, n):
    cost = total(lambda a: lax.linalg.qr(a, full_matrices=False), f"f32[{m},{n}]")
    k = min(m, n)
    assert cost.flops + cost.transcendentals == working_note_geqrf(m, n) + working_note_orgqr(m, k, k)
    assert cost.transcendentals == k


@pytest.mark.parametrize(("m", "n"), [(6, 4), (5, 1)])
def test_a_square_q_costs_the_columns_that_it_has_more(m, n):
    thin, full = (
        total(lambda a, full=full: lax.linalg.qr(a, full_matrices=full), f"f32[{m},{n}]") for full in (False, True)
    )
    assert full.flops - thin.flops == working_note_orgqr(m, m, n) - working_note_orgqr(m, n, n)


def reflected(a, zero):
    """Triangularise by Householder reflections, a column at a time; sums start at zero, as BLAS starts them."""
    m, n = a.shape
    for k in range(min(m, n)):
        column = a[k:, k].copy()
        norm = sum((x * x for x in column[1:]), column[0] * column[0]).sqrt()
        alpha = norm if column[0].value < 0 else Number(-norm.value, norm.tally)
        scale = Number(1, norm.tally) / (column[0] - alpha)
        v = [Number(1, norm.tally), *(x * scale for x in column[1:])]
        tau = (alpha - column[0]) / alpha
        a[k, k] = alpha
        for j in range(k + 1, n):
            w = tau * sum((x * y for x, y in zip(v, a[k:, j], strict=True)), zero)
            for i, x in enumerate(v):
                a[k + i, j] = a[k + i, j] - x * w
    return a


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_qr_takes_what_scalar_reflections_take_plus_the_safe_norm_of_each(m, n):
    tally, x = Tally(), random(m, n)
    r = np.triu(values(reflected(numbers(x, tally), Number(0, tally))))[: min(m, n)]
    np.testing.assert_allclose(np.abs(r), np.abs(np.linalg.qr(x)[1]), atol=1e-12)
    cost = total(lambda a: lax.linalg.qr(a, full_matrices=False), f"f32[{m},{n}]")
    k = min(m, n)
    reflections = cost.flops + cost.transcendentals - working_note_orgqr(m, k, k)
    # LAPACK guards the norm against overflow; the working note counts 2 operations a reflection for it.
    assert reflections == tally.arithmetic + tally.roots + 2 * k


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("n", ORDERS)
def test_triangular_solve_takes_what_substitution_takes(n, unit):
    tally, sides = Tally(), 3
    a, b = np.tril(random(n, n)) + 3 * np.eye(n), random(n, sides)
    if unit:
        np.fill_diagonal(a, 1)
    lower, x = numbers(a, tally), numbers(b, tally)
    for side in range(sides):
        for i in range(n):
            for j in range(i):
                x[i, side] = x[i, side] - lower[i, j] * x[j, side]
            if not unit:
                x[i, side] = x[i, side] / lower[i, i]
    np.testing.assert_allclose(a @ values(x), b)
    cost = total(
        lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True, lower=True, unit_diagonal=unit),
        f"f32[{n},{n}]",
        f"f32[{n},{sides}]",
    )
    assert cost.flops == tally.arithmetic


def test_triangular_solve_from_the_right_costs_the_same():
    left = total(lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True), "f32[5,5]", "f32[5,3]")
    right = total(lambda a, b: lax.linalg.triangular_solve(a, b, left_side=False), "f32[5,5]", "f32[3,5]")
    assert left.flops == right.flops == 3 * 5**2


@pytest.mark.parametrize("sides", [1, 3])
@pytest.mark.parametrize("n", range(3, 7))
def test_tridiagonal_solve_takes_what_the_thomas_algorithm_takes(n, sides):
    tally = Tally()
    below, diagonal, above, b = random(n), random(n) + 5, random(n), random(n, sides)
    low, middle, up, x = (numbers(values_, tally) for values_ in (below, diagonal, above, b))
    up[0] = up[0] / middle[0]
    x[0] = [side / middle[0] for side in x[0]]
    for i in range(1, n):
        pivot = middle[i] - low[i] * up[i - 1]
        if i < n - 1:
            up[i] = up[i] / pivot
        x[i] = [(side - low[i] * before) / pivot for side, before in zip(x[i], x[i - 1], strict=True)]
    for i in range(n - 2, -1, -1):
        x[i] = [side - up[i] * after for side, after in zip(x[i], x[i + 1], strict=True)]
    matrix = np.diag(diagonal) + np.diag(below[1:], -1) + np.diag(above[:-1], 1)
    np.testing.assert_allclose(matrix @ values(x), b)
    vector, rhs = f"f32[{n}]", f"f32[{n},{sides}]"
    assert total(lax.linalg.tridiagonal_solve, vector, vector, vector, rhs).flops == tally.arithmetic


@pytest.mark.parametrize("n", ORDERS)
def test_cholesky_update_takes_what_plane_rotations_take(n):
    tally = Tally()
    x = random(n, n)
    factor, w = np.linalg.cholesky(x @ x.T + np.eye(n)).T, random(n)
    r, v = numbers(factor, tally), numbers(w, tally)
    for k in range(n):
        length = (r[k, k] * r[k, k] + v[k] * v[k]).sqrt()
        c, s = r[k, k] / length, v[k] / length
        r[k, k] = length
        for j in range(k + 1, n):
            r[k, j], v[j] = c * r[k, j] + s * v[j], c * v[j] - s * r[k, j]
    after = np.triu(values(r))
    np.testing.assert_allclose(after.T @ after, factor.T @ factor + np.outer(w, w))
    cost = total(lax.linalg.cholesky_update, f"f32[{n},{n}]", f"f32[{n}]")
    assert (cost.flops, cost.transcendentals) == tallied(tally)


@pytest.mark.parametrize("n", ORDERS)
def test_condensed_forms_are_what_the_working_note_says(n):
    half, sixth = Fraction(1, 2), Fraction(1, 6)
    gehrd = n * (n * (10 * sixth * n + half) - 7 * sixth) - 13 + n * (n * (10 * sixth * n - 1) - 4 * sixth) - 8
    sytrd = n * (n * (4 * sixth * n + 5 * half) - sixth) - 15 + n * (n * (4 * sixth * n + 1) - 16 * sixth) - 4
    for function, operations in ((lax.linalg.hessenberg, gehrd), (lax.linalg.tridiagonal, sytrd)):
        cost = total(lambda a, function=function: function(a), f"f32[{n},{n}]")
        # Matrices of order 1 and 2 have the form already.
        assert cost.flops + cost.transcendentals == max(operations, 0)


DECOMPOSITIONS = {
    "cholesky": lax.linalg.cholesky,
    "lu": lax.linalg.lu,
    "qr": lax.linalg.qr,
    "eigh": lax.linalg.eigh,
    "svd": lax.linalg.svd,
    "eig": lax.linalg.eig,
    "schur": lax.linalg.schur,
    "hessenberg": lax.linalg.hessenberg,
    "tridiagonal": lambda a: lax.linalg.tridiagonal(a, lower=True),
}


@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_a_batch_of_matrices_costs_as_many_as_it_holds(name):
    function = DECOMPOSITIONS[name]
    one, many = total(function, "f32[5,5]"), total(function, "f32[2,3,5,5]")
    assert (many.flops, many.transcendentals) == (6 * one.flops, 6 * one.transcendentals)
    mapped = total(jax.vmap(function), "f32[6,5,5]")
    assert (mapped.flops, mapped.transcendentals) == (many.flops, many.transcendentals)


def test_singular_values_alone_cost_less_than_thin_factors_and_these_less_than_square_ones():
    alone = total(lambda a: lax.linalg.svd(a, compute_uv=False), "f32[20,12]").flops
    thin = total(lambda a: lax.linalg.svd(a, full_matrices=False), "f32[20,12]").flops
    square = total(lambda a: lax.linalg.svd(a, full_matrices=True), "f32[20,12]").flops
    assert alone < thin < square


def test_a_wide_matrix_has_the_singular_values_of_its_transpose():
    assert total(lax.linalg.svd, "f32[20,12]").flops == total(lax.linalg.svd, "f32[12,20]").flops


def test_complex_matrices_count_an_operation_an_element():
    complex_, real = total(lax.linalg.lu, "c64[5,5]"), total(lax.linalg.lu, "f32[5,5]")
    assert complex_.flops == real.flops
    assert set(complex_.by_dtype()) >= {"c64"}
