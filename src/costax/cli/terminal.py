"""The command line's manners: one clear message for each error, exit codes, pipes that close early."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, Final

import click

from costax.cli.options import DEBUG
from costax.errors import CheckError, CostaxError

CHECK_FAILED: Final = 1
WRONG_USAGE: Final = 2
# What a shell reports of a program that a signal ends: 128 + SIGINT, 128 + SIGPIPE.
_INTERRUPTED: Final = 130
_PIPE_CLOSED: Final = 141


class Commands(click.Group):
    """A group whose commands end with a message on standard error and an exit code, never with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Exit codes: 0 fine, 1 a check failed, 2 wrong usage."""
        # A terminal that cannot show a character gets a question mark in its place.
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")  # type: ignore[union-attr]
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("Interrupted. Nothing was written.", err=True)
            ctx.exit(_INTERRUPTED)
        except BrokenPipeError:
            # The reader has gone, as `head` does; Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(_PIPE_CLOSED)
        except Exception as error:
            ctx.exit(_report(error, debug=ctx.meta.get(DEBUG, False)))
        return result


def _report(error: Exception, *, debug: bool) -> int:
    if debug:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    elif isinstance(error, CostaxError):
        click.echo(f"{type(error).__name__}: {error}", err=True)
    else:
        click.echo(_own_fault(error), err=True)
    return CHECK_FAILED if isinstance(error, CheckError) else WRONG_USAGE


def _own_fault(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    line = " ".join(["costax", *map(_quoted, sys.argv[1:])])
    return (
        f"costax itself failed: {type(error).__name__}: {error} ({last.filename}:{last.lineno})\n"
        "This is a fault of costax and not of your program.\n"
        f"Please report it with this line and what it prints: {line} --debug"
    )


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def show(renderable: Any) -> None:
    """Print what rich renders: with colours on a terminal, whole and plain in a pipe."""
    from costax.report.text import for_output

    click.echo(for_output(renderable))


def write(contents: str | bytes) -> None:
    """Print the contents of a file as they are."""
    click.echo(contents, nl=False)


def errors() -> Any:
    """Return the console of standard error, where progress is shown."""
    from rich.console import Console

    return Console(stderr=True)
