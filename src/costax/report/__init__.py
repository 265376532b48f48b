"""Showing and keeping: records, tables, and the files that they are saved in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from costax.errors import RecordError

if TYPE_CHECKING:
    from costax.analysis.analysis import Analysis
    from costax.compare.ledgers import Ledgers, Stage
    from costax.report.comparison_record import SavedComparison

    Shown = Analysis | Ledgers[Stage]

# Name -> (suffix, module of this package, function that turns an analysis or a comparison into the file's contents).
FORMATS: Final[Mapping[str, tuple[str, str, str]]] = {
    "speedscope": (".speedscope.json", "formats", "as_speedscope"),
    "json": (".json", "formats", "as_json"),
    "markdown": (".md", "formats", "as_markdown"),
    "csv": (".csv", "formats", "as_csv"),
    "html": (".html", "html.page", "as_html"),
    "pprof": (".pb.gz", "formats", "as_pprof"),
}


def save(account: Shown, path: str | Path, **choice: Any) -> None:
    """Write an analysis or a comparison to a file in the format of its suffix: one of `FORMATS`.

    choice: which table, for the formats that hold one. The file is there whole or not at all.
    Raises RecordError for a suffix that nobody knows, or where the file cannot be written.
    """
    write(path, writer(path)(account, **choice))


def write(path: str | Path, text: str | bytes) -> None:
    """Write a file, whole or not at all. Raises RecordError where it cannot be written."""
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
        raise _unwritable(path, error) from error


def writer(path: str | Path) -> Callable[..., str | bytes]:
    """Return what turns an analysis or a comparison into the contents of a file of this name.

    Raises RecordError for a suffix that nobody knows, or a directory that is not there.
    """
    file = Path(path)
    name = next((name for name, (suffix, *_) in FORMATS.items() if file.name.lower().endswith(suffix)), None)
    if name is None:
        suffix = f"the suffix {file.suffix!r}" if file.suffix else "no suffix"
        raise RecordError(
            f"{str(path)!r} has {suffix}, which names no format.",
            why="The suffix says how the analysis is written.",
            cure=f"Use one of {', '.join(suffix for suffix, *_ in FORMATS.values())}.",
        )
    if not file.parent.is_dir():
        raise RecordError(
            f"{str(path)!r} cannot be written: there is no directory {str(file.parent)!r}.",
            why="costax makes files, not directories.",
            cure="Make the directory first, or give another path.",
        )
    return as_format(name)


def as_format(name: str) -> Callable[..., str | bytes]:
    """Return what turns an analysis or a comparison into one of `FORMATS`."""
    _, module, function = FORMATS[name]
    return getattr(import_module(f"costax.report.{module}"), function)


def analysis_of(account: Shown) -> Analysis:
    """Return the analysis, or that of a comparison."""
    return getattr(account, "jaxpr", account)  # type: ignore[return-value]


def load(path: str | Path) -> Analysis:
    """Return the analysis of a saved record; its tables are those of the analysis that was saved. Imports no jax.

    The record of a comparison holds one. Raises RecordError where the file cannot be read, or is not a record.
    """
    return analysis_of(load_any(path))


def load_any(path: str | Path) -> Analysis | SavedComparison:
    """Return the analysis or the comparison of a saved record. Imports no jax. Raises RecordError."""
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
    if isinstance(record, dict) and str(record.get("schema")).startswith("costax/comparison/"):  # pyright: ignore
        from costax.report.comparison_record import ComparisonReader

        return ComparisonReader(str(path)).comparison(record)
    return from_record(record, str(path))


def _unwritable(path: str | Path, error: OSError) -> RecordError:
    return RecordError(
        f"{str(path)!r} cannot be written: {error.strerror or error}.",
        why="The analysis is not saved, and nothing half-written is left.",
        cure="Give a path that you may write to.",
    )
