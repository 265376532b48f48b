"""The results of a sweep: a table, its Pareto front, and scaling laws fitted to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

from costax.core.display import Displayed
from costax.core.listing import listed
from costax.core.polynomial.parse import parse_polynomial
from costax.errors import SweepError, install_command
from costax.sweep.journal import flat
from costax.sweep.worker import MEASURED, Result

if TYPE_CHECKING:
    from costax.sweep.scaling_laws import ScalingLaw

_OWN: Final = frozenset({"exact", "error", "program", "seconds"})


@dataclass(frozen=True, repr=False)
class Sweep(Displayed):
    """The results of a sweep in the order of its grid.

    results: for each point its values, its counts or its error, and the seconds of the analysis.
    """

    results: tuple[Result, ...]

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.results)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows."""
        return iter(self.rows)

    @cached_property
    @listed
    def rows(self) -> Sequence[dict[str, Any]]:
        """One row for each point: its values, the counts (integers or polynomials), `error` and `seconds`."""
        return [_read(flat(result)) for result in self.results]

    @property
    def errors(self) -> dict[str, str]:
        """The error of each failed point, by the text of the point: `depth=2, width=64`."""
        return {
            ", ".join(f"{name}={value}" for name, value in result["point"].items()): result["error"]
            for result in self.results
            if result["error"] is not None
        }

    @property
    def programs(self) -> int:
        """The number of distinct programs; each was analysed once."""
        return len({result["program"] for result in self.results if result["program"] is not None})

    def to_pandas(self) -> Any:
        """Return the rows as a pandas DataFrame; counts beyond 64 bits stay Python integers.

        Raises SweepError if pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-untyped, import-not-found, unused-ignore]
        except ImportError as error:
            raise SweepError(
                "pandas is not installed.",
                why="to_pandas() returns a pandas DataFrame.",
                cure=install_command("sweep"),
            ) from error
        return cast(Any, pandas).DataFrame(self.rows)

    def column(self, name: str) -> list[Any]:
        """Return one column for all points that did not fail.

        Args:
            name: Of a parameter of the grid, or of a count.

        Raises SweepError if there is no such column.
        """
        rows = [row for row in self.rows if row["error"] is None]
        known = list(dict.fromkeys(key for row in rows for key in row if key not in _OWN))
        if name not in known:
            from costax.program.branches import nearest

            raise SweepError(
                f"There is no column {name!r}.",
                why=f"The columns are {', '.join(known)}." if known else "Every point of the sweep failed.",
                cure=nearest(name, known) or 'Use one of the columns, such as "flops".',
            )
        return [row.get(name) for row in rows]

    def pareto(self, *names: str) -> Sweep:
        """Return the Pareto front: the points that no other point dominates.

        A point dominates another one if it is at most as large in every column and smaller in one. A minus before a
        name reverses the order: `pareto("flops", "-width")` prefers few FLOPs and a large width.

        Args:
            names: The columns, of which less is better, or more where a minus stands before the name: `pareto("flops",
                "-width")`.

        Raises SweepError for a column that does not exist or has values without an order.
        """
        if not names:
            raise SweepError(
                "pareto() needs at least one column.",
                why="Points are compared by the columns.",
                cure='Pass, for example, pareto("flops", "params").',
            )
        signs = [-1 if name.startswith("-") else 1 for name in names]
        columns = [self.column(name.removeprefix("-")) for name in names]
        for name, column in zip(names, columns, strict=True):
            if any(value is None or isinstance(value, str) or not hasattr(value, "__float__") for value in column):
                raise SweepError(
                    f"The column {name!r} has values without an order.",
                    why="The Pareto front compares numbers.",
                    cure="Use columns of numbers. Formulas have an order only after their symbols have values.",
                )
        own = [r for r in self.results if r["error"] is None]
        scores = [tuple(s * v for s, v in zip(signs, values, strict=True)) for values in zip(*columns, strict=True)]
        return Sweep(tuple(own[i] for i in _undominated(scores)))

    def fit(self, law: str) -> ScalingLaw:
        """Fit a scaling law such as "flops ~ depth*width^2" by least squares of the logarithms.

        A number as an exponent is fixed, a name is fitted: "flops ~ width^a". A law may be a sum: "params ~
        depth*width^2 + vocab*width".

        Args:
            law: A count, `~`, and a sum of products of columns. A number as an exponent is fixed, a name is fitted:
                "flops ~ width^a".

        Raises SweepError for a law that cannot be read, a column that is not positive, or points that do not determine
        the law.
        """
        from costax.sweep.scaling_laws import fitted

        return fitted(self, law)


def _undominated(scores: Sequence[tuple[Any, ...]]) -> list[int]:
    """Return the indices of the scores that no other score dominates, in order."""
    front: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: scores[i]):
        # In sorted order, only an earlier score can dominate a later one.
        if not any(_dominates(scores[other], scores[index]) for other in front):
            front.append(index)
    return sorted(front)


def _dominates(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return tuple(one) != tuple(other) and all(a <= b for a, b in zip(one, other, strict=True))


def _read(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose formulas are parsed to polynomials."""
    return {
        name: parse_polynomial(value) if name in MEASURED and isinstance(value, str) else value
        for name, value in row.items()
    }
