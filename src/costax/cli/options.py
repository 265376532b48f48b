"""The options that several commands share, as decorators, and the parsers of their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Final, Protocol, TypeVar

import click

from costax.core import units
from costax.errors import InputError, TripsError, UnitError
from costax.report import FORMATS, format_names

_F = TypeVar("_F", bound=Callable[..., Any])


class Decorator(Protocol):
    """A decorator that adds options to a command and keeps its type."""

    def __call__(self, command: _F, /) -> _F:
        """Return the command with the options added."""
        ...


_MOST: Final = 10**15
"""The largest number of an option: of no device, step or run there is a larger one, and no product overflows."""


class FiniteRange(click.FloatRange):
    """A number of seconds, watts, money or the like: not NaN, and small enough that products of figures are finite."""

    def __init__(self, *, positive: bool = False) -> None:
        """Accept the numbers from 0 on; positive: those above 0."""
        super().__init__(min=0, max=_MOST, min_open=positive)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Every comparison with NaN is false, so click's own check accepts it."""
        number = super().convert(value, param, ctx)
        if number != number:
            self.fail("nan is not a number.", param, ctx)
        return number


_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_WITH_UNIT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s|min|h)\s*")


def _number_of_seconds(value: Any) -> str:
    """Return the reason why a time with a unit, such as 50ms, is no number of seconds; "" for any other value."""
    match = _WITH_UNIT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return ""
    return f"{value!r} has a unit; write the number of seconds: {float(match[1]) * _UNITS[match[2]]:.15g}"


class Seconds(click.types.FloatParamType):
    """A number of seconds, without a unit."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        reason = _number_of_seconds(value)
        return self.fail(reason, param, ctx) if reason else super().convert(value, param, ctx)


class FiniteSeconds(FiniteRange):
    """A number of seconds, without a unit, in the range of a `FiniteRange`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        reason = _number_of_seconds(value)
        return self.fail(reason, param, ctx) if reason else super().convert(value, param, ctx)


def at_least_one() -> click.IntRange:
    """Return the type of a number of devices, examples or tokens."""
    return click.IntRange(min=1, max=_MOST)


# The key of --debug in `Context.meta`, which all contexts of one invocation share.
DEBUG: Final = "costax.debug"


PARAMS: Final = "costax.params"
"""The key of --params in `Context.meta`."""


def _remember_params(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    numbers = value.split(",")
    if not all(re.fullmatch(r" *[0-9]{1,9} *", number) for number in numbers):
        raise click.BadParameter(f"{value!r} is not a list of numbers of arguments, such as 0 or 0,2.")
    context.meta[PARAMS] = tuple(map(int, numbers))


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

# Values of symbols: `trips`. One list for both, because a name is that of a loop or else that of a size.
symbol_values: Decorator = click.option(
    "--trips",
    "--at",
    "trips",
    multiple=True,
    metavar="NAME=N,...",
    help="Values of symbols: trip counts of loops that depend on data, as solver/while=40, and sizes with names, as "
    "b=8,s=2048. Repeat for more.",
)

# The arguments of a target that is not a factory: `inputs`.
inputs: Decorator = click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="SPEC",
    help="Dtype and shape of an argument, as f32[8,224,224,3] or name=i32[8]. Repeat for each argument; a factory "
    "needs none.",
)

# TARGET and how it is traced: `target`, `inputs`, `trips`, `on_missing`; --params is kept in `Context.meta`.
tracing: Decorator = _chain(
    click.argument("target"),
    inputs,
    symbol_values,
    click.option(
        "--params",
        metavar="N,...",
        expose_value=False,
        callback=_remember_params,
        help="Positional arguments that are parameters, counted from 0, for functions that belong to no framework.",
    ),
    click.option(
        "--on-missing",
        type=click.Choice(["raise", "warn"]),
        help="For primitives without a rule: raise an error, or list them as not counted.",
    ),
)

# A module of a folder that XLA dumped into: `module`.
module_of_folder: Decorator = click.option(
    "--module", metavar="NAME", help="For a folder: read the module with this in its name, not the largest."
)

# The branch of a cond or switch that is counted: `branches`.
branching: Decorator = _chain(
    click.option(
        "--branches",
        multiple=True,
        metavar="HOW",
        help="Branch of a cond or switch that is counted: max (the default), min, mean, or PLACE=max|min|mean|INDEX.",
    ),
)

# The target of the compiler and its time limit: `compile_for`, `timeout`.
compile_target: Decorator = _chain(
    click.option(
        "--target",
        "compile_for",
        default="cpu",
        show_default=True,
        metavar="MACHINE",
        help="Device to compile for; it need not be present: cpu, tpu:v5e, tpu:v5e:2x4, cuda:h100, cuda:h100:8 ...",
    ),
    click.option(
        "--timeout",
        type=FiniteSeconds(positive=True),
        default=1800.0,
        show_default=True,
        metavar="SECONDS",
        help="Time limit for compiling for a device that is not present.",
    ),
)


# The options of XLA's compiler: `xla_flags`.
xla_flags: Decorator = click.option(
    "--xla-flag", "xla_flags", multiple=True, metavar="NAME=VALUE", help="Set an option of XLA. Repeat for more."
)


def save_as(kind: str) -> Decorator:
    """Return the option --save: `save`. Its help lists the suffixes of the formats of a class of value."""
    suffixes = " ".join(FORMATS[name].suffix for name in format_names(kind))
    return click.option(
        "--save",
        multiple=True,
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help=f"Write to a file; the suffix selects the format: {suffixes}. Repeat for more files.",
    )


# The output of a command: `as_json`, `save`, `strict`.
output: Decorator = _chain(
    click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of tables."),
    save_as("Analysis"),
    click.option("--strict", is_flag=True, help="Exit with 1 if a number is not exact or not explained."),
)

# The table: `by`, `depth`, `sort`. The choices repeat those of `report.tables`, and a test compares the two; `analyze`
# and `compare` also accept the choices for HLO modules.
_BY: Final = ("scope", "module", "primitive", "source", "dtype", "direction")
_BY_OF_MODULES: Final = ("opcode", "computation")


def _table(by: Sequence[str]) -> Callable[[_F], _F]:
    return _chain(
        click.option(
            "--by",
            type=click.Choice(by),
            default="scope",
            show_default=True,
            help="What each line of the table counts.",
        ),
        click.option(
            "--depth",
            type=click.IntRange(min=1),
            metavar="N",
            help="Levels of scopes; by default as many as fit on the screen.",
        ),
        click.option(
            "--sort",
            type=click.Choice(["order", "macs", "flops", "transcendentals", "ops", "bytes", "params", "name"]),
            help="Sort key of the lines; by default scopes keep the program order, other lines are sorted by FLOPs.",
        ),
    )


table: Decorator = _table(_BY)
table_or_modules: Decorator = _table((*_BY, *_BY_OF_MODULES))


def _as_view(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gather the options of `view` into one argument."""

    @wraps(function)
    def gathered(*args: Any, **kwargs: Any) -> Any:
        view = {name: kwargs.pop(name) for name in ("merge", "top", "direction", "columns")}
        return function(*args, view=view, **kwargs)

    return gathered


def _columns(_: click.Context, __: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.replace(" ", "").split(",")))


# The lines of the table: `view`, which holds arguments of `report.tables.table`.
view: Decorator = _chain(
    click.option("--merge/--no-merge", default=True, help="Equal layers share one line, or each has its own."),
    click.option(
        "--top",
        type=click.IntRange(min=1),
        metavar="N",
        help="Show the N costliest lines of each level; one more line sums the others.",
    ),
    click.option(
        "--direction",
        type=click.Choice(["forward", "backward", "recompute", "update"]),
        help="Show only this part of a training step.",
    ),
    click.option(
        "--columns",
        metavar="NAME,...",
        default="",
        callback=_columns,
        help="Show beside each layer its class, its output, or both: type,output.",
    ),
    _as_view,
)


# The convention of another tool: `tool`. `costax.analysis.other_tools.conventions` checks the name; its list of choices
# cannot be imported without jax.
convention: Decorator = click.option(
    "--as",
    "tool",
    metavar="TOOL",
    help="Show the number of another tool and the reasons why it differs: fvcore, thop, ptflops, torch, palm-mfu ...",
)


# The printed format: `form`.
formats: Decorator = click.option(
    "--format",
    "form",
    type=click.Choice(format_names("Analysis")),
    help="Print this format instead of tables.",
)


def parsed_branches(texts: Sequence[str]) -> dict[str, int | str]:
    """Return the values of --branches by place; a value without a place is for all. `analyze` checks the values."""
    branches: dict[str, int | str] = {}
    for text in texts:
        place, _, how = text.rpartition("=")
        add_once(branches, place or "*", int(how) if how.isdecimal() else how, "--branches")
    return branches


def parsed_trips(texts: Sequence[str]) -> dict[str, int]:
    """Return the values of --trips and --at by name. Raises TripsError if a text is not NAME=N,..."""
    trips: dict[str, int] = {}
    for text in (part for written in texts for part in written.split(",")):
        place, equals, number = text.strip().rpartition("=")
        try:
            value = units.parse_exact(number, "") if place and equals else None
        except UnitError:
            value = None
        # A fraction is refused, because rounded it would be another program: n=1.5 that of n=2.
        if value is None or value.denominator != 1:
            raise TripsError(
                f"--trips and --at must be NAME=N, got {text!r}.",
                why="NAME is a loop as the tables name it, or a size; N is its value, a whole number.",
                cure="Use for example --trips 'solver/while=40' or --at b=8,s=2048.",
            )
        _say_prefix(place, number.strip(), int(value))
        add_once(trips, place, int(value), "--trips or --at")
    return trips


def _say_prefix(place: str, number: str, value: int) -> None:
    """Say on standard error how a number with a decimal prefix is read: by 8k a reader may mean 8192, too."""
    if not number[-1].isalpha() or number.endswith("i"):
        return
    binary = f"{number[:-1]}{number[-1].upper()}i"
    other = units.parse_exact(binary, "")
    if other.denominator == 1:
        click.echo(f"costax: {place}={number} is {value:,}; {place}={binary} is {int(other):,}.", err=True)


def add_once(values: dict[str, Any], name: str, value: Any, option: str) -> None:
    """Add the value that an option gives to a name. Raises InputError if the name has another value."""
    if values.setdefault(name, value) != value:
        raise InputError(
            f"In {option}, {name!r} has two values, {values[name]} and {value}.",
            why="Only one of them can count.",
            cure="Leave one of them out.",
        )


def parsed_flags(texts: Sequence[str]) -> dict[str, str]:
    """Return the values of --xla-flag by name. Raises click's BadParameter if a text is not NAME=VALUE."""
    flags: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"write {text!r} as NAME=VALUE.", param_hint="--xla-flag")
        flags[name.strip()] = value.strip()
    return flags
