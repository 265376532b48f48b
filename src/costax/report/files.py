"""Atomic writing of files."""

from __future__ import annotations

import os
from pathlib import Path

from costax.core.unfinished_files import SAVED, unfinished_name
from costax.errors import RecordError


def write(path: str | Path, text: str | bytes) -> None:
    """Write a file atomically: to a temporary file beside it first, then renamed. Raises RecordError if that fails."""
    target = Path(os.path.realpath(path))
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise RecordError(
            f"{str(path)!r} cannot be written: it is no regular file.",
            why="costax replaces a file as a whole.",
            cure="Use the path of a file.",
        )
    unfinished = unfinished_name(target)
    try:
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
