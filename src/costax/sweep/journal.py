"""The file of results of a sweep. Each result is written at once, so that a later sweep continues from the file.

A .jsonl file has a header and one result per line. A Parquet file cannot grow, so the sweep writes lines to a second
file (`results.parquet.jsonl`) until the last point is done. An incomplete last line, left by a killed process, is
removed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from costax.core.unfinished_files import unfinished_name
from costax.errors import SweepError, install_command
from costax.sweep.conditions import Conditions, differences
from costax.sweep.grid import key_of
from costax.sweep.worker import Result

SCHEMA: Final = "costax/sweep/2"
_SUFFIXES: Final = (".jsonl", ".parquet")
_INT64: Final = 1 << 63


class Journal:
    """Results by point, in memory and, if there is a path, in a file."""

    def __init__(self, path: str | Path | None, conditions: Conditions) -> None:
        """Open the file and read the results of an earlier sweep.

        conditions: what the results depend on beside the point. Raises SweepError for a file of other conditions, an
        unknown suffix or a file that cannot be written.
        """
        self.path: Path | None = None if path is None else Path(path)
        self.conditions = conditions
        self.results: dict[str, Result] = {}
        self._file: Any = None
        if self.path is None:
            return
        if self.path.suffix not in _SUFFIXES:
            raise SweepError(
                f"{str(path)!r} does not end in {' or '.join(_SUFFIXES)}.",
                why="The suffix decides the format of the results.",
                cure=f"Use one of the suffixes {', '.join(_SUFFIXES)}.",
            )
        if not self.path.parent.is_dir():
            raise SweepError(
                f"{str(path)!r} cannot be written: there is no directory {str(self.path.parent)!r}.",
                why="costax does not create directories.",
                cure="Create the directory first, or choose another path.",
            )
        if self._is_table:
            _arrow()
            if self.path.exists():
                self._read_table(self.path)
        self._open()

    @property
    def _is_table(self) -> bool:
        return self.path is not None and self.path.suffix == ".parquet"

    @property
    def lines(self) -> Path:
        """The path of the file of lines."""
        assert self.path is not None
        return self.path.with_name(f"{self.path.name}.jsonl") if self._is_table else self.path

    def add(self, result: Result) -> None:
        """Store a result, and write it to the file."""
        if self._file is not None:
            self._write(result)
        self.results[key_of(result["point"])] = result

    def close(self, *, complete: bool) -> None:
        """Close the file. If all points are done, convert the lines to a Parquet table where one was requested."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if complete and self._is_table:
            try:
                write_table(cast(Path, self.path), self.conditions, self.results.values())
            except OSError as error:
                why = f"All results are kept in {str(self.lines)!r}; the same sweep again makes the table of them."
                raise _unwritable(cast(Path, self.path), error, why) from error
            self.lines.unlink()

    def _open(self) -> None:
        lines = self.lines
        try:
            # Without a buffer: what did not fit the disk must not be written again when the file is closed.
            self._file = lines.open("ab", buffering=0)
        except OSError as error:
            raise _unwritable(lines, error, "Results would be lost when the sweep ends.") from error
        try:
            if not _locked(self._file):
                raise SweepError(
                    f"Another sweep writes to {str(lines)!r}.",
                    why="The lines of two sweeps would be mixed.",
                    cure="Wait until it ends, or choose another file.",
                )
            if lines.stat().st_size:
                self._read_lines(lines)
            if not lines.stat().st_size:
                try:
                    self._write({"schema": SCHEMA, **self.conditions})
                except SweepError:
                    lines.unlink()
                    raise
        except BaseException:
            self._file.close()
            self._file = None
            raise

    def _write(self, entry: Mapping[str, Any]) -> None:
        rest = (json.dumps(entry) + "\n").encode()
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            kept = f"Points in the file: {len(self.results)}."
            raise _unwritable(self.lines, error, kept) from error

    def _read_lines(self, path: Path) -> None:
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            # The process of an earlier sweep ended while it wrote the last line.
            with path.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines()):
            try:
                entry: Any = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _not_ours(path, f"line {number + 1} is not JSON") from error
            if number == 0:
                self._check_header(path, entry)
            elif isinstance(entry, dict) and "point" in entry:
                self.results[key_of(cast("Any", entry)["point"])] = cast(Result, entry)
            else:
                raise _not_ours(path, f"line {number + 1} is not a result")

    def _read_table(self, path: Path) -> None:
        _, parquet = _arrow()
        try:
            table: Any = parquet.read_table(path)
        except (OSError, ValueError) as error:
            raise _not_ours(path, str(error)) from error
        metadata: Mapping[bytes, bytes] = table.schema.metadata or {}
        self._check_header(path, json.loads(metadata.get(b"costax", b"null")))
        for text in table.column("result").to_pylist():
            result: Result = json.loads(text)
            self.results[key_of(result["point"])] = result

    def _check_header(self, path: Path, header: Any) -> None:
        groups = dict(cast("Mapping[str, Any]", header)) if isinstance(header, dict) else {}
        if groups.pop("schema", None) != SCHEMA:
            raise _not_ours(path, f"its header does not name the schema {SCHEMA!r}")
        if not all(isinstance(group, dict) for group in groups.values()):
            raise _not_ours(path, "its header does not say what the results depend on")
        changed = differences(groups, self.conditions)
        if changed:
            raise SweepError(
                f"The results in {str(path)!r} are of another sweep: {'; '.join(changed[:5])}.",
                why="The results of the two would be mixed.",
                cure="Choose another file for this sweep, or remove that one.",
            )


def _locked(file: Any) -> bool:
    """Lock a file for this process, where the system can; say whether no other process has it locked."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # The file system has no locks.
        return True
    return True


def _unwritable(path: Path, error: OSError, why: str) -> SweepError:
    return SweepError(
        f"{str(path)!r} cannot be written: {error.strerror or error}.",
        why=why,
        cure="Choose a path that you can write to, on a disk with room.",
    )


def _not_ours(path: Path, reason: str) -> SweepError:
    return SweepError(
        f"{str(path)!r} is not a file of sweep results: {reason}.",
        why="costax appends results to the file and does not overwrite other files.",
        cure="Choose another path.",
    )


def write_table(path: Path, conditions: Conditions, results: Iterable[Result]) -> None:
    """Write results as a Parquet table with a column for each name of the points and each count.

    The file is written under another name and then renamed, so that it never exists half written.
    """
    arrow, parquet = _arrow()
    rows = [flat(result) for result in results]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column(arrow, [row.get(name) for row in rows]) for name in names}
    columns["result"] = arrow.array([json.dumps(result) for result in results], arrow.string())
    table = arrow.table(columns).replace_schema_metadata({"costax": json.dumps({"schema": SCHEMA, **conditions})})
    unfinished = unfinished_name(path)
    try:
        parquet.write_table(table, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _column(arrow: Any, values: list[Any]) -> Any:
    kinds: set[type[Any]] = {type(value) for value in values if value is not None}
    if kinds == {int} and any(abs(value) >= _INT64 for value in values if value is not None):
        from decimal import Decimal

        # Integers beyond 64 bits become exact decimals of 38 or 76 digits.
        largest = max(len(str(abs(value))) for value in values if value is not None)
        kind = arrow.decimal128(38) if largest <= 38 else arrow.decimal256(76)
        return arrow.array([None if value is None else Decimal(value) for value in values], kind)
    if len(kinds) > 1 and kinds != {int, float}:
        return arrow.array(
            [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
        )
    return arrow.array(values)


def flat(result: Result) -> dict[str, Any]:
    """Return a result as one row: the values of the point, the counts, the error and the seconds."""
    rest = {name: value for name, value in result.items() if name not in ("point", "same_as", "process", "analysed")}
    return {**result["point"], **{name: value for name, value in rest.items() if name not in result["point"]}}


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # type: ignore[import-untyped, import-not-found, unused-ignore]
        import pyarrow.parquet  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError as error:
        raise SweepError(
            "pyarrow is not installed.",
            why="It writes and reads Parquet files.",
            cure=f"{install_command('sweep')}, or write the results to a .jsonl file.",
        ) from error
    return cast(Any, pyarrow), cast(Any, pyarrow).parquet
