"""Atomic writing of files: a file that is not finished is written beside its target and then renamed."""

from __future__ import annotations

import os
import secrets
from collections import deque
from pathlib import Path
from typing import Final

from costax.errors import RecordError

SAVED: Final[deque[str]] = deque(maxlen=100)
"""The files that were saved last; an interrupted command names them."""


def unfinished_name(target: Path) -> Path:
    """Return a name beside a file that no other thread or process uses."""
    return target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")


def write(path: str | Path, text: str | bytes) -> None:
    """Write a file atomically: to a temporary file beside it first, then renamed. Raises RecordError if that fails."""
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not (target.is_file() or target.is_dir()):
            raise RecordError(
                f"{str(path)!r} cannot be written: it is no regular file.",
                why="costax replaces a file as a whole.",
                cure="Use the path of a file.",
            )
        unfinished = unfinished_name(target)
        with unfinished.open("xb") as file:
            try:
                file.write(text.encode(errors="replace") if isinstance(text, str) else text)
                file.close()
                os.replace(unfinished, target)
                SAVED.append(str(path))
            except BaseException:
                unfinished.unlink()
                raise
    except OSError as error:
        raise RecordError(
            f"{str(path)!r} cannot be written: {error.strerror or error}.",
            why="The result is not saved. The directory contains no partial file.",
            cure="Use a path that you may write to.",
        ) from error
