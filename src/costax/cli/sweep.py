"""`costax sweep`: the costs of a factory's programs at every point of a grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from costax.cli import options, terminal
from costax.errors import CheckError, SweepError

# The largest number of values of one range: a typing error such as 1:10000000000 must not fill the memory.
_LONGEST: Final = 10_000_000


@dataclass(frozen=True)
class Factory:
    """The factory of the programs, by name, so that each process can import it."""

    target: str

    @property
    def study(self) -> str:
        """The name of the study in a file of results."""
        return self.target

    def __call__(self, **point: Any) -> Any:
        """Return the program of one point of the grid."""
        from costax.program.targets import load_attribute

        return load_attribute(self.target)(**point)


@click.command(short_help="Count the work of a program at every point of a grid.")
@click.argument("target")
@click.option(
    "--grid",
    "grids",
    multiple=True,
    required=True,
    metavar="NAME=VALUES",
    help="Values of an argument: depth=2,4,8, or width=256:2048:256 start, stop (included) and step. Repeat for each.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False), metavar="FILE", help="File for the results: .jsonl or .parquet."
)
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Number of processes; by default one per core."
)
@click.option("--retry-errors", is_flag=True, help="Analyse again the points that failed when FILE was written.")
@click.option("--fit", "laws", multiple=True, metavar="LAW", help="Fit a scaling law, as 'flops ~ depth*width^2'.")
@click.option("--pareto", metavar="COLUMNS", help="Show only the Pareto front of these columns, as flops,params.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON lines instead of a table.")
@options.branching
@click.option("--trips", multiple=True, metavar="PLACE=N", help="Trip count of a loop that depends on data.")
@click.option("--strict", is_flag=True, help="Exit with 1 if any point failed.")
@click.option("--no-progress", is_flag=True, help="Show no progress.")
@options.debug
def sweep(
    target: str,
    grids: Sequence[str],
    out: str | None,
    workers: int | None,
    retry_errors: bool,
    laws: Sequence[str],
    pareto: str | None,
    as_json: bool,
    branches: Sequence[str],
    trips: Sequence[str],
    strict: bool,
    no_progress: bool,
) -> None:
    """Count the work of TARGET(**point) at every point of a grid, on all cores; TARGET returns (fn, args).

    With --out, an interrupted sweep continues with the missing points.

    \b
    costax sweep study.py:make --grid depth=2,4,8 --grid width=256:2048:256 --out results.parquet
    """
    from costax.program.targets import load_attribute
    from costax.sweep.runner import sweep as run

    grid: dict[str, list[Any]] = {}
    for name, values in map(parsed_grid, grids):
        options.add_once(grid, name, values, "--grid")
    load_attribute(target)
    results = run(
        Factory(target),
        grid,
        progress=not no_progress,
        out=out,
        workers=workers,
        retry_errors=retry_errors,
        branches=options.parsed_branches(branches) or "max",
        trips=options.parsed_trips(trips),
    )
    shown = results.pareto(*(name.strip() for name in pareto.split(","))) if pareto else results
    if as_json:
        for result in shown.results:
            click.echo(json.dumps(result))
    else:
        terminal.show(shown)
        for law in laws:
            click.echo()
            terminal.show(str(results.fit(law)))
    if strict and results.errors:
        point, error = next(iter(results.errors.items()))
        raise CheckError(
            f"{len(results.errors)} of {len(results)} points failed; the first is {point}: {error}",
            why="With --strict every point must succeed.",
            cure="Correct the factory, or leave out --strict.",
        )


def parsed_grid(text: str) -> tuple[str, list[Any]]:
    """Return the name and the values of `depth=2,4,8` or `width=256:2048:256`. Raises SweepError.

    >>> parsed_grid("width=256:1024:256"), parsed_grid("norm=layer,rms"), parsed_grid("bias=true,false")
    (('width', [256, 512, 768, 1024]), ('norm', ['layer', 'rms']), ('bias', [True, False]))
    """
    name, equals, values = text.partition("=")
    if not (name.strip().isidentifier() and equals and values.strip()):
        raise _grid_error(text, "it must be a name, an equals sign and values")
    parts = values.split(":")
    if len(parts) in (2, 3) and all(part.strip().lstrip("-").isdecimal() for part in parts):
        start, stop, step = (*map(int, parts), 1)[:3]
        if step == 0 or (stop - start) * step < 0:
            raise _grid_error(text, f"the range from {start} to {stop} with step {step} is empty")
        if (stop - start) // step > _LONGEST:
            raise _grid_error(text, f"the range has {(stop - start) // step + 1} values, more than {_LONGEST}")
        return name.strip(), list(range(start, stop + (1 if step > 0 else -1), step))
    return name.strip(), [_value(value.strip(), text) for value in values.split(",")]


def _value(text: str, grid: str) -> Any:
    if not text:
        raise _grid_error(grid, "a value is empty")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _grid_error(text: str, reason: str) -> SweepError:
    return SweepError(
        f"--grid {text!r} is not valid: {reason}.",
        why="Every combination of the values of all grids is a point.",
        cure="Use for example --grid depth=2,4,8 --grid width=256:2048:256.",
    )
