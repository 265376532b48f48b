"""The results of a sweep: a table, its best points, and laws fitted to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

from costax.core.display import Displayed
from costax.core.polynomial.parse import parse_polynomial
from costax.errors import SweepError
from costax.sweep.journal import flat
from costax.sweep.worker import MEASURED, Result

if TYPE_CHECKING:
    from costax.sweep.scaling_laws import ScalingLaw

_OWN: Final = frozenset({"exact", "error", "program", "seconds"})


@dataclass(frozen=True)
class Sweep(Displayed):
    """The results of a sweep, in the order of its grid; `results` hold each point and what became of it."""

    results: tuple[Result, ...]

    def __len__(self) -> int:
        """Return how many points there are."""
        return len(self.results)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows."""
        return iter(self.rows)

    @cached_property
    def rows(self) -> Sequence[dict[str, Any]]:
        """One row a point: its names, the counts (integers, or formulas), `error` and `seconds`."""
        return [_read(flat(result)) for result in self.results]

    @property
    def errors(self) -> dict[str, str]:
        """The points that failed, as text, and why."""
        return {
            ", ".join(f"{name}={value}" for name, value in result["point"].items()): result["error"]
            for result in self.results
            if result["error"] is not None
        }

    @property
    def programs(self) -> int:
        """How many different programs there were; each was analysed once."""
        return len({result["program"] for result in self.results if result["program"] is not None})

    def to_pandas(self) -> Any:
        """Return the rows as a pandas DataFrame; counts beyond 64 bits stay Python integers. Needs costax[sweep]."""
        try:
            import pandas  # type: ignore[import-untyped, import-not-found, unused-ignore]
        except ImportError as error:
            raise SweepError(
                "pandas is not installed.", why="It makes the table.", cure="pip install 'costax[sweep]'"
            ) from error
        return cast(Any, pandas).DataFrame(self.rows)

    def column(self, name: str) -> list[Any]:
        """Return one column over the points that did not fail. Raises SweepError where there is none of this name."""
        rows = [row for row in self.rows if row["error"] is None]
        known = list(dict.fromkeys(key for row in rows for key in row if key not in _OWN))
        if name not in known:
            from costax.program.branches import nearest

            raise SweepError(
                f"There is no column {name!r}.",
                why=f"A sweep has: {', '.join(known) or 'no point that did not fail'}.",
                cure=nearest(name, known) or 'Name one of these, such as "flops".',
            )
        return [row.get(name) for row in rows]

    def pareto(self, *names: str) -> Sweep:
        """Return the points that no other one beats: as small in every column named, and smaller in one.

        A name with a minus before it is wanted large: `pareto("flops", "-width")`.
        """
        if not names:
            raise SweepError(
                "pareto() was given no column.", why="Points are compared by columns.", cure='pareto("flops", "params")'
            )
        signs = [-1 if name.startswith("-") else 1 for name in names]
        columns = [self.column(name.removeprefix("-")) for name in names]
        for name, column in zip(names, columns, strict=True):
            if any(value is None or isinstance(value, str) or not hasattr(value, "__float__") for value in column):
                raise SweepError(
                    f"The column {name!r} holds values that have no order.",
                    why="A point beats another one by smaller numbers.",
                    cure="Name columns of numbers; evaluate formulas first.",
                )
        own = [r for r in self.results if r["error"] is None]
        scores = [tuple(s * v for s, v in zip(signs, values, strict=True)) for values in zip(*columns, strict=True)]
        return Sweep(tuple(own[i] for i in _undominated(scores)))

    def fit(self, law: str) -> ScalingLaw:
        """Fit a law such as "flops ~ depth*width^2" by least squares in log space.

        Numbers as exponents are held, names (`width^a`) are fitted; terms may be summed: "depth*width^2 + vocab*width".
        """
        from costax.sweep.scaling_laws import fitted

        return fitted(self, law)


def _undominated(scores: Sequence[tuple[Any, ...]]) -> list[int]:
    """Return the places of the scores that none beats, in their order."""
    front: list[int] = []
    for place in sorted(range(len(scores)), key=lambda i: scores[i]):
        # Sorted, a score can only be beaten by one before it.
        if not any(_beats(scores[other], scores[place]) for other in front):
            front.append(place)
    return sorted(front)


def _beats(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return tuple(one) != tuple(other) and all(a <= b for a, b in zip(one, other, strict=True))


def _read(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its formulas as polynomials."""
    return {
        name: parse_polynomial(value) if name in MEASURED and isinstance(value, str) else value
        for name, value in row.items()
    }
