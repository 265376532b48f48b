"""Atomic writing of files."""

from __future__ import annotations

import os
from pathlib import Path

from costax.errors import RecordError


def write(path: str | Path, text: str | bytes) -> None:
    """Write a file atomically: to a temporary file beside it first, then renamed. Raises RecordError if that fails."""
    target = Path(os.path.realpath(path))
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("xb") as file:
            try:
                file.write(text.encode() if isinstance(text, str) else text)
                file.close()
                os.replace(unfinished, target)
            except BaseException:
                unfinished.unlink()
                raise
    except OSError as error:
        raise RecordError(
            f"{str(path)!r} cannot be written: {error.strerror or error}.",
            why="The result is not saved. The directory contains no partial file.",
            cure="Use a path that you may write to.",
        ) from error
