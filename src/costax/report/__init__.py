"""Showing and keeping: records, tables, and the files that they are saved in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from costax.errors import RecordError

if TYPE_CHECKING:
    from costax.analysis import Analysis

# Suffix -> (module of this package, function that turns an analysis into the file's text).
_FORMATS: Final[Mapping[str, tuple[str, str]]] = {
    ".json": ("files", "as_json"),
    ".md": ("files", "as_markdown"),
    ".csv": ("files", "as_csv"),
}


def save(analysis: Analysis, path: str | Path) -> None:
    """Write an analysis to a file in the format of its suffix: .json, .md or .csv.

    The file is there whole or not at all. Raises RecordError for a suffix that nobody knows, or where the file
    cannot be written.
    """
    write(path, writer(path)(analysis))


def write(path: str | Path, text: str) -> None:
    """Write a file, whole or not at all. Raises RecordError where it cannot be written."""
    target = Path(os.path.realpath(path))
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("x", encoding="utf-8", newline="") as file:
            try:
                file.write(text)
                file.close()
                os.replace(unfinished, target)
            except BaseException:
                unfinished.unlink()
                raise
    except OSError as error:
        raise _unwritable(path, error) from error


def writer(path: str | Path) -> Callable[[Analysis], str]:
    """Return what turns an analysis into the text of a file of this name.

    Raises RecordError for a suffix that nobody knows, or a directory that is not there.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise RecordError(
            f"{str(path)!r} has {f'the suffix {suffix!r}' if suffix else 'no suffix'}, which names no format.",
            why="The suffix says how the analysis is written.",
            cure=f"Use one of {', '.join(_FORMATS)}.",
        )
    if not Path(path).parent.is_dir():
        raise RecordError(
            f"{str(path)!r} cannot be written: there is no directory {str(Path(path).parent)!r}.",
            why="costax makes files, not directories.",
            cure="Make the directory first, or give another path.",
        )
    module, function = _FORMATS[suffix]
    return getattr(import_module(f"costax.report.{module}"), function)


def load(path: str | Path) -> Analysis:
    """Return the analysis of a saved record; its tables are those of the analysis that was saved. Imports no jax.

    Raises RecordError where the file cannot be read, or is not a record of costax.
    """
    from costax.report.record import from_record

    try:
        record = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise RecordError(
            f"{str(path)!r} cannot be read: {error.strerror or error}.",
            why="A record is a file that `save` or --save wrote.",
            cure="Give the path of a .json record.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise RecordError(
            f"{str(path)!r} is not JSON: {error}.",
            why="A record of costax is a JSON file; the other formats are for reading, not for loading.",
            cure="Save it as .json: costax analyze TARGET --save FILE.json.",
        ) from error
    return from_record(record, str(path))


def _unwritable(path: str | Path, error: OSError) -> RecordError:
    return RecordError(
        f"{str(path)!r} cannot be written: {error.strerror or error}.",
        why="The analysis is not saved, and nothing half-written is left.",
        cure="Give a path that you may write to.",
    )
