"""The command line's `sweep`: a factory of programs by name, and grids as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from costax.cli import options, terminal
from costax.errors import CheckError, SweepError

# A slip of the finger in a range should not fill the memory.
_LONGEST: Final = 10_000_000


@dataclass(frozen=True)
class Factory:
    """What makes the programs, by its name: each process imports it for itself."""

    target: str

    @property
    def study(self) -> str:
        """What a file of results calls it."""
        return self.target

    def __call__(self, **point: Any) -> Any:
        """Return the program of a point."""
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
    help="Values of an argument: depth=2,4,8, or width=256:2048:256 from, to (included) and step. Repeat for each.",
)
@click.option("--out", type=click.Path(dir_okay=False), metavar="FILE", help="Where results go: .jsonl or .parquet.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes; by default one for each core.")
@click.option("--retry-errors", is_flag=True, help="Analyse again what failed when FILE was written.")
@click.option("--fit", "laws", multiple=True, metavar="LAW", help="Fit a law, as 'flops ~ depth*width^2'.")
@click.option("--pareto", metavar="COLUMNS", help="Show only what no other point beats, as flops,params.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON lines instead of a table.")
@options.branching
@click.option("--trips", multiple=True, metavar="PLACE=N", help="How often a loop of unknown length runs.")
@click.option("--strict", is_flag=True, help="Exit with 1 if any point failed.")
@click.option("--no-progress", is_flag=True, help="Say nothing on the way.")
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

    With --out, a sweep that was interrupted goes on where it was.

    \b
    costax sweep study.py:make --grid depth=2,4,8 --grid width=256:2048:256 --out results.parquet
    """
    from costax.program.targets import load_attribute
    from costax.sweep.runner import sweep as run

    grid = dict(map(parsed_grid, grids))
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
            click.echo(f"\n{results.fit(law)}")
    if strict and results.errors:
        where, why = next(iter(results.errors.items()))
        raise CheckError(
            f"{len(results.errors)} of {len(results)} points failed; {where}: {why}",
            why="--strict wants all of them.",
            cure="Mend the factory, or leave --strict out.",
        )


def parsed_grid(text: str) -> tuple[str, list[Any]]:
    """Return the name and the values of `depth=2,4,8` or `width=256:2048:256`. Raises SweepError.

    >>> parsed_grid("width=256:1024:256"), parsed_grid("norm=layer,rms"), parsed_grid("bias=true,false")
    (('width', [256, 512, 768, 1024]), ('norm', ['layer', 'rms']), ('bias', [True, False]))
    """
    name, equals, values = text.partition("=")
    if not (name.strip().isidentifier() and equals and values.strip()):
        raise _no_grid(text, "a grid is a name, an equals sign and values")
    parts = values.split(":")
    if len(parts) in (2, 3) and all(part.strip().lstrip("-").isdecimal() for part in parts):
        start, stop, step = (*map(int, parts), 1)[:3]
        if step == 0 or (stop - start) * step < 0:
            raise _no_grid(text, f"no number lies from {start} to {stop} by steps of {step}")
        if (stop - start) // step > _LONGEST:
            raise _no_grid(text, f"it has {(stop - start) // step + 1} values")
        return name.strip(), list(range(start, stop + (1 if step > 0 else -1), step))
    return name.strip(), [_value(value.strip(), text) for value in values.split(",")]


def _value(text: str, grid: str) -> Any:
    if not text:
        raise _no_grid(grid, "a value is empty")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _no_grid(text: str, reason: str) -> SweepError:
    return SweepError(
        f"--grid {text!r} gives no values: {reason}.",
        why="Every combination of the values is a point.",
        cure="Write for example --grid depth=2,4,8 --grid width=256:2048:256.",
    )
