"""Scaling laws fitted to a sweep: sums of products of powers, by least squares of the logarithms."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from costax.errors import SweepError

_FACTOR: Final = re.compile(r"(?P<name>[A-Za-z_]\w*)(?:(?:\^|\*\*)(?P<power>-?\d+(?:\.\d+)?|[A-Za-z_]\w*))?")
# The largest number of Gauss-Newton steps, and the size of a step that ends the iteration.
_STEPS: Final = 200
_SMALL: Final = 1e-12
_SHOWN: Final = 5


class Columns(Protocol):
    """A table with columns, such as a Sweep."""

    @property
    def results(self) -> Sequence[Any]:
        """The result of each point."""
        ...

    def column(self, name: str) -> list[Any]:
        """Return one column for all points that did not fail."""
        ...


@dataclass(frozen=True, repr=False)
class ScalingLaw:
    """A fitted scaling law.

    law: the text of the user. coefficients: one for each term. exponents: the fitted exponents by name. residuals: for
    each point log(value / fitted value), so that 0.01 is about one percent. points: in the order of the residuals.
    """

    law: str
    coefficients: tuple[float, ...]
    exponents: Mapping[str, float]
    residuals: tuple[float, ...]
    points: tuple[Mapping[str, Any], ...]

    @property
    def rms(self) -> float:
        """The root mean square of the residuals."""
        return float(np.sqrt(np.mean(np.square(self.residuals))))

    @property
    def formula(self) -> str:
        """The law with its fitted numbers."""
        target, terms = _parsed(self.law)
        texts = [
            "*".join([f"{coefficient:.4g}", *(_factor(name, power, self.exponents) for name, power in term)])
            for coefficient, term in zip(self.coefficients, terms, strict=True)
        ]
        return f"{target} = {' + '.join(texts)}"

    def __repr__(self) -> str:
        """Return the formula, the number of points and the root mean square of the residuals."""
        return f"<costax.ScalingLaw> {self.formula}: {len(self.residuals)} points, residuals {self.rms:.2%}"

    def __str__(self) -> str:
        """Return the formula, the root mean square of the residuals and the points with the largest residuals."""
        worst = sorted(zip(self.residuals, self.points, strict=True), key=lambda pair: -abs(pair[0]))[:_SHOWN]
        lines = [self.formula, f"{len(self.residuals)} points, residuals {self.rms:.2%} (root mean square, of the log)"]
        for residual, point in worst:
            where = ", ".join(f"{name}={value}" for name, value in point.items())
            lines.append(f"  {np.expm1(residual):+.2%}  {where}")
        return "\n".join(lines)


def _factor(name: str, power: float | str, exponents: Mapping[str, float]) -> str:
    number = exponents[power] if isinstance(power, str) else power
    return name if number == 1 else f"{name}^{number:.4g}"


def fitted(sweep: Columns, law: str) -> ScalingLaw:
    """Return a scaling law fitted to a sweep; see `Sweep.fit`. Raises SweepError."""
    target, terms = _parsed(law)
    free = sorted({power for term in terms for _, power in term if isinstance(power, str)})
    names = sorted({name for term in terms for name, _ in term})
    measured = _logarithms(sweep, target)
    logs = {name: _logarithms(sweep, name) for name in names}
    unknowns = len(terms) + len(free)
    if len(measured) < unknowns:
        raise SweepError(
            f"{law!r} has {unknowns} unknowns, but the sweep has only {len(measured)} points.",
            why="Least squares need at least as many points as unknowns.",
            cure="Sweep over more points, or write numbers for the exponents.",
        )
    solution = _solved(measured, logs, terms, free)
    logarithm = _modelled(solution, logs, terms, free)[0]
    if np.linalg.matrix_rank(_modelled(solution, logs, terms, free)[1]) < unknowns:
        raise SweepError(
            f"The points do not determine the unknowns of {law!r}.",
            why="Some of its terms or exponents are proportional at all points.",
            cure="Sweep over more values of each name, or remove a term.",
        )
    return ScalingLaw(
        law,
        tuple(float(np.exp(c)) for c in solution[: len(terms)]),
        dict(zip(free, map(float, solution[len(terms) :]), strict=True)),
        tuple(map(float, measured - logarithm)),
        tuple(result["point"] for result in sweep.results if result["error"] is None),
    )


def _parsed(law: str) -> tuple[str, list[list[tuple[str, float | str]]]]:
    target, tilde, right = law.partition("~")
    terms: list[list[tuple[str, float | str]]] = []
    for text in right.split("+"):
        term: list[tuple[str, float | str]] = []
        for factor in re.split(r"(?<!\*)\*(?!\*)", text):
            match = _FACTOR.fullmatch(factor.strip())
            if not match:
                raise _not_a_law(law)
            power = match["power"]
            term.append((match["name"], power if power and power[0].isalpha() else float(power or 1)))
        terms.append(term)
    if not tilde or not target.strip().isidentifier():
        raise _not_a_law(law)
    return target.strip(), terms


def _not_a_law(law: str) -> SweepError:
    return SweepError(
        f"{law!r} is not a scaling law.",
        why="A law is a column, a tilde and a sum of products of powers of columns.",
        cure='Write, for example, "flops ~ depth*width^2", or "flops ~ width^a" to fit the exponent.',
    )


def _logarithms(sweep: Columns, name: str) -> Any:
    column = sweep.column(name)
    try:
        values = np.array([float(value) for value in column])
    except (TypeError, ValueError, ArithmeticError):
        values = np.array([-1.0])
    if not (values > 0).all():
        raise SweepError(
            f"The column {name!r} is not positive everywhere.",
            why="The fit uses the logarithms of the column.",
            cure="Remove the points where the column is zero, not a number, or a formula.",
        )
    return np.log(values)


def _modelled(
    solution: Any, logs: Mapping[str, Any], terms: Sequence[Sequence[tuple[str, float | str]]], free: Sequence[str]
) -> tuple[Any, Any]:
    """Return the logarithm of the law at every point, shape (points,), and its Jacobian, (points, unknowns)."""
    exponents = dict(zip(free, solution[len(terms) :], strict=True))
    parts: list[Any] = []
    for constant, term in zip(solution, terms, strict=False):
        part = constant
        for name, power in term:
            part = part + (exponents[power] if isinstance(power, str) else power) * logs[name]
        parts.append(part)
    stacked = np.stack(parts)
    logarithm = np.logaddexp.reduce(stacked)
    # The derivative of log(sum(exp(part))) by a part is the share of this part in the sum.
    weights = np.exp(stacked - logarithm)
    columns = list(weights)
    columns += [
        sum(w * logs[name] for w, term in zip(weights, terms, strict=True) for name, p in term if p == power)
        for power in free
    ]
    return logarithm, np.stack(columns, axis=-1)


def _solved(
    measured: Any,
    logs: Mapping[str, Any],
    terms: Sequence[Sequence[tuple[str, float | str]]],
    free: Sequence[str],
) -> Any:
    """Return the logarithms of the coefficients followed by the exponents.

    A law with one term is linear in these unknowns, and one Gauss-Newton step solves it. A sum of terms needs several
    damped steps (Levenberg-Marquardt): a step that increases the error is discarded and the damping increased.
    """
    solution = np.concatenate([np.zeros(len(terms)), np.ones(len(free))])
    logarithm, _ = _modelled(solution, logs, terms, free)
    solution[: len(terms)] += np.mean(measured - logarithm)
    damping = 1e-3 if len(terms) > 1 else 0.0
    error = np.inf
    for _ in range(_STEPS):
        logarithm, jacobian = _modelled(solution, logs, terms, free)
        residual = measured - logarithm
        rows = [jacobian, np.sqrt(damping) * np.eye(len(solution))]
        step = np.linalg.lstsq(np.concatenate(rows), np.concatenate([residual, np.zeros(len(solution))]), rcond=None)[0]
        trial = solution + step
        after = float(np.sum(np.square(measured - _modelled(trial, logs, terms, free)[0])))
        if after <= error or not damping:
            solution, error, damping = trial, after, damping / 3
        else:
            damping *= 5
        if float(np.max(np.abs(step))) < _SMALL:
            break
    return solution
