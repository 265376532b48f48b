"""Options that the commands share, as decorators, and what they make of their values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Final, Protocol, TypeVar

import click

from costax.core import units
from costax.errors import TripsError, UnitError

_F = TypeVar("_F", bound=Callable[..., Any])


class Decorator(Protocol):
    """A decorator that adds options to a command and keeps its type."""

    def __call__(self, command: _F, /) -> _F:
        """Return the command with the options added."""
        ...


# The key of `Context.meta` under which --debug is kept: all contexts of one call share it.
DEBUG: Final = "costax.debug"


def _chain(*decorators: Callable[[Any], Any]) -> Callable[[_F], _F]:
    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _remember_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[DEBUG] = context.meta.get(DEBUG, False) or value


debug: Decorator = click.option(
    "--debug", is_flag=True, is_eager=True, expose_value=False, callback=_remember_debug, help="Show tracebacks."
)

# TARGET and how it is traced: `target`, `inputs`, `trips`, `on_missing`.
tracing: Decorator = _chain(
    click.argument("target"),
    click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="SPEC",
        help="Shape of an argument, as f32[8,224,224,3] or name=i32[8]; repeat for each. Factories need none.",
    ),
    click.option(
        "--trips",
        multiple=True,
        metavar="PLACE=N",
        help="How often a loop runs whose length is not in the program, as solver/while=40.",
    ),
    click.option(
        "--on-missing",
        type=click.Choice(["raise", "warn"]),
        help="What becomes of primitives without a rule: an error, or a line in the list of things not counted.",
    ),
)

# Which branch of a cond or switch is charged: `branches`.
branching: Decorator = _chain(
    click.option(
        "--branches",
        multiple=True,
        metavar="HOW",
        help="Which branch of a cond or switch counts: max (the default), min, mean, or PLACE=max|min|mean|INDEX.",
    ),
)

# What to compile for, and how long that may take: `compile_for`, `timeout`.
machine: Decorator = _chain(
    click.option(
        "--target",
        "compile_for",
        default="cpu",
        show_default=True,
        metavar="MACHINE",
        help="What to compile for; it need not be here: tpu:v5e, tpu:v5e:2x4, cuda:h100, cuda:h100:8 ...",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=1800.0,
        show_default=True,
        metavar="SECONDS",
        help="How long the compiler of another machine may take.",
    ),
)

# What becomes of the answer: `as_json`, `save`, `strict`.
output: Decorator = _chain(
    click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of tables."),
    click.option(
        "--save",
        multiple=True,
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Write to a file; its suffix names the format: .json .md .csv .html .speedscope.json .pb.gz.",
    ),
    click.option("--strict", is_flag=True, help="Exit with 1 if anything is inexact, uncounted or unexplained."),
)

# Which table: `by`, `depth`, `sort`. The choices are those of `report.tables`, which a test compares; `analyze` and
# `compare` also take those of HLO modules.
_BY: Final = ("scope", "primitive", "source", "dtype", "direction")
_BY_OF_MODULES: Final = ("opcode", "computation")


def _table(by: Sequence[str]) -> Callable[[_F], _F]:
    return _chain(
        click.option(
            "--by",
            type=click.Choice(by),
            default="scope",
            show_default=True,
            help="What each line of the table stands for.",
        ),
        click.option(
            "--depth",
            type=click.IntRange(min=1),
            metavar="N",
            help="Levels of scopes; by default what fits.",
        ),
        click.option(
            "--sort",
            type=click.Choice(["order", "macs", "flops", "transcendentals", "ops", "bytes", "params", "name"]),
            help="Sort lines; by default scopes stay in program order and the others go by FLOPs.",
        ),
    )


table: Decorator = _table(_BY)
table_or_modules: Decorator = _table((*_BY, *_BY_OF_MODULES))


def _as_view(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gather the options of `view` into one argument."""

    @wraps(function)
    def gathered(*args: Any, **kwargs: Any) -> Any:
        view = {name: kwargs.pop(name) for name in ("merge", "top", "direction")}
        return function(*args, view=view, **kwargs)

    return gathered


# Which lines of the table: `view`, what `report.tables.table` takes by these names.
view: Decorator = _chain(
    click.option("--merge/--no-merge", default=True, help="Equal layers share a line, or each has its own."),
    click.option(
        "--top", type=click.IntRange(min=1), metavar="N", help="The N costliest lines of a level; the others are one."
    ),
    click.option(
        "--direction",
        type=click.Choice(["forward", "backward", "recompute", "update"]),
        help="Only this part of a training step.",
    ),
    _as_view,
)


# As another tool would count: `tool`. Its choices are CONVENTIONS of `costax.analysis.other_tools.conventions`, whose
# import loads jax.
convention: Decorator = click.option(
    "--as",
    "tool",
    metavar="TOOL",
    help="Say what another tool would print, and why: fvcore, thop, ptflops, torch, palm-mfu ...",
)


# In which format: `form`. The choices are `report.format_names("Analysis")`, which a test compares.
formats: Decorator = click.option(
    "--format",
    "form",
    type=click.Choice(["json", "markdown", "csv", "html", "speedscope", "pprof"]),
    help="Print this format instead of tables.",
)


def parsed_branches(texts: Sequence[str]) -> dict[str, int | str]:
    """Return the answers of --branches by place; one without a place is for all. What it means, `analyze` checks."""
    answers: dict[str, int | str] = {}
    for text in texts:
        place, _, how = text.rpartition("=")
        answers[place or "*"] = int(how) if how.isdecimal() else how
    return answers


def parsed_trips(texts: Sequence[str]) -> dict[str, int]:
    """Return the answers of --trips by place. Raises TripsError where a text is not PLACE=N."""
    answers: dict[str, int] = {}
    for text in texts:
        place, equals, number = text.rpartition("=")
        try:
            answers[place] = units.parse(number, "")
        except UnitError:
            equals = ""
        if not (place and equals):
            raise TripsError(
                f"--trips {text!r} answers nothing.",
                why="It says how often a loop runs: a place, an equals sign and a whole number.",
                cure="Write for example --trips 'solver/while=40'.",
            )
    return answers
