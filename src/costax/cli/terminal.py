"""How commands end: error messages, exit codes, closed pipes; and how they print."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import click

from costax.cli.options import DEBUG
from costax.core.foreign import message_of
from costax.core.guards import ENDS_AT_ONCE, interrupted_message
from costax.core.hints import for_a_shell
from costax.core.interrupts import Terminated, noted, postponed
from costax.core.printable import without_controls
from costax.core.unfinished_files import SAVED
from costax.errors import CheckError, CostaxError

CHECK_FAILED: Final = 1
WRONG_USAGE: Final = 2
# The exit codes of a shell for a program that a signal ends: 128 + SIGINT, SIGPIPE.
INTERRUPTED: Final = 130
_PIPE_CLOSED: Final = 141
# By default Python ends at once at these signals, and leaves temporary folders and processes behind.
_ENDING: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
# Errors of the system that are no bug of costax, even where they name no file.
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
_NOWHERE: Final = """The current directory does not exist any more.
costax looks there for the files of its arguments and of the program.
Change to a directory that exists, such as `cd ~`."""
_NO_MEMORY: Final = """The memory of this machine, or what `ulimit -v` leaves of it, is used up.
The command did not finish.
Close other programs, raise the limit, or choose a smaller program: fewer layers, a scan over layers."""
# Longer lines of messages are cut.
_LONGEST: Final = 2000


class Commands(click.Group):
    """A group whose commands report an error as a message on standard error and an exit code, without a traceback."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the arguments. An interrupt here ends the command like one while it runs."""
        try:
            return super().make_context(*args, **extra)
        except KeyboardInterrupt as interrupt:
            _say_interrupted(interrupted_message())
            raise click.exceptions.Exit(INTERRUPTED) from interrupt
        except BrokenPipeError as error:
            _drop_output()
            raise click.exceptions.Exit(_PIPE_CLOSED) from error
        except OSError as error:
            # --help and --version print here.
            raise click.exceptions.Exit(_report(error, debug=False)) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Exit codes: 0 success, 1 a check failed, 2 wrong usage; of `fits` also 3."""
        # A character that the terminal's encoding cannot express is printed as a question mark.
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")  # type: ignore[union-attr]
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                # `nohup` lets a command ignore SIGHUP.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, _end)
        if not sys.stderr:
            # Progress and what the program prints go there; a shell closed it, as `2>&-` does.
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        SAVED.clear()
        ends_at_once = ENDS_AT_ONCE.set(True)
        try:
            # Python has no stream where a shell closed it, as `>&-` does.
            if not sys.stdout:
                raise OSError(errno.EBADF, "standard output is closed")
            with for_a_shell(), noted():
                result = super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except SystemExit as end:
            if isinstance(end, Terminated):
                _say_interrupted(interrupted_message())
            raise
        except KeyboardInterrupt as interrupt:
            _say_interrupted(f"Interrupted: {interrupt}" if interrupt.args else interrupted_message())
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            _drop_output()
            ctx.exit(_PIPE_CLOSED)
        except BaseException as error:
            ctx.exit(_report(error, debug=ctx.meta.get(DEBUG, False)))
        finally:
            ENDS_AT_ONCE.reset(ends_at_once)
        return result


def _drop_output() -> None:
    """Let what is left of the output go: the reader of its pipe has ended, and the flush at exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(message: str, *, nl: bool = True) -> None:
    """Print on standard error, whose pipe may be closed or whose disk may be full: the exit code is the same."""
    with suppress(OSError):
        click.echo(message, err=True, nl=nl)


def _end(number: int, frame: FrameType | None) -> None:
    if not postponed(number, frame):
        raise Terminated(128 + number)


def _say_interrupted(message: str) -> None:
    """Print the last line of an interrupted command, which no second Ctrl-C interrupts. Its terminal may be gone."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        _tell(message)
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _report(error: BaseException, *, debug: bool) -> int:
    if debug:
        _tell(without_controls("".join(traceback.format_exception(error))), nl=False)
    elif isinstance(error, CostaxError):
        _tell(_cut(f"{type(error).__name__}: {error}"))
    elif isinstance(error, OSError) and (error.filename is not None or error.errno in _NO_ROOM):
        _tell(_cut(_system_error(error)))
    elif isinstance(error, FileNotFoundError) and _is_nowhere():
        _tell(_NOWHERE)
    elif isinstance(error, MemoryError):
        _tell(_NO_MEMORY)
    else:
        _tell(_cut(_internal_error(error)))
    return CHECK_FAILED if isinstance(error, CheckError) else WRONG_USAGE


def _system_error(error: OSError) -> str:
    """Return the message for a file that the system does not give, or for a disk without room."""
    place = "The output" if error.filename is None else repr(error.filename)
    return (
        f"{place} cannot be read or written: {error.strerror or error}.\n"
        "The command did not finish.\n"
        "Check the path, your permissions, and the room on the disk."
    )


def _is_nowhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _cut(message: str) -> str:
    """Return a message that is safe to print: a line of it may hold a name, or an argument, of any length."""
    lines = without_controls(message).split("\n")
    return "\n".join(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..." for line in lines)


def _internal_error(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    line = " ".join(["costax", *map(_quoted, sys.argv[1:])])
    return (
        f"costax itself failed: {type(error).__name__}: {message_of(error)} ({last.filename}:{last.lineno})\n"
        "This is a bug of costax, not of your program.\n"
        f"Please report it with the output of this command: {line} --debug"
    )


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def show(renderable: Any) -> None:
    """Print what rich renders: coloured and wrapped on a terminal, plain and unwrapped in a pipe."""
    from costax.report.text import for_output

    click.echo(for_output(renderable))


def write(contents: str | bytes) -> None:
    """Print the contents of a file without changes."""
    click.echo(contents, nl=False)


def errors() -> Any:
    """Return a console on standard error, which shows progress."""
    from rich.console import Console

    return Console(stderr=True)
