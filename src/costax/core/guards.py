"""A guard: a small process that outlives a command that a signal ends, deletes its temporary folder, and says so.

The guard waits at a pipe whose other end only the command holds. The system closes that end however the command ends,
also at SIGKILL or a crash of XLA; a command that finishes its block writes a line into the pipe before.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import IO, Final

from costax.core.unfinished_files import SAVED

ENDS_AT_ONCE: Final[ContextVar[bool]] = ContextVar("ends_at_once", default=False)
"""Whether this process is that of a command, which a signal may end and which has guards."""
_GUARDED: ContextVar[bool] = ContextVar("guarded", default=False)
_SIGNALS: Final = ("SIGHUP", "SIGINT", "SIGTERM", "SIGPIPE")
# $1: the folder, $2: the message. XLA may write one more file while the folder is deleted, so it is deleted twice.
_SCRIPT: Final = """
trap '' HUP INT TERM PIPE
read -r finished && exit
[ -z "$1" ] || rm -rf -- "$1"
[ -z "$2" ] || printf '%s\\n' "$2" >&2
exec 2>/dev/null
[ -z "$1" ] || { sleep 1; rm -rf -- "$1"; }
"""


def interrupted_message() -> str:
    """Return the line that an interrupted command ends with: it names the files that were written before."""
    kept = f"Written before: {', '.join(map(repr, SAVED))}." if SAVED else "Nothing was written."
    return f"Interrupted: the command did not finish. {kept}"


@contextmanager
def guarded(folder: str = "") -> Generator[None]:
    """Let a guard delete a folder, and print that the command was interrupted, if the process ends in this block.

    folder: a temporary folder of this process; "" for none, which needs no second guard inside a guarded block. Outside
    of commands, and on systems without `sh`, the block runs without a guard.
    """
    inner = _GUARDED.get()
    pipe = _started(folder, "" if inner else interrupted_message()) if folder or not inner else None
    token = _GUARDED.set(inner or pipe is not None)
    try:
        yield
    finally:
        _GUARDED.reset(token)
        if pipe is not None:
            # The guard may have been killed.
            with suppress(OSError):
                pipe.write(b"finished\n")
            with suppress(OSError):
                pipe.close()


def _started(folder: str, message: str) -> IO[bytes] | None:
    """Start a guard and return the pipe to it; None where there is none."""
    if not ENDS_AT_ONCE.get() or os.name != "posix":
        return None
    blocked = {getattr(signal, name) for name in _SIGNALS}
    # The guard inherits the blocked signals, so that no signal ends it before its first line.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        guard = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "costax-guard", folder, message],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            start_new_session=True,
        )
    except OSError:
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    # Without a wait the system would keep an entry of the ended guard until this process ends.
    threading.Thread(target=guard.wait, name="costax guard", daemon=True).start()
    return guard.stdin
