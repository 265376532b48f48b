"""The file of a sweep: each result is in it as soon as it is there, and a later sweep goes on from it.

JSON lines hold a header, then one result a line. A Parquet file cannot grow, so its sweep keeps such lines beside it
(`results.parquet.jsonl`) until the last point is done. A line that a killed process left unfinished is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from costax.errors import SweepError
from costax.sweep.grid import key_of
from costax.sweep.worker import Result

SCHEMA: Final = "costax/sweep/1"
_SUFFIXES: Final = (".jsonl", ".parquet")
_INT64: Final = 1 << 63


class Journal:
    """Results by point, in memory and, where there is a path, in its file."""

    def __init__(self, path: str | Path | None, study: str) -> None:
        """Read what an earlier sweep of the same study has left. Raises SweepError for another study's file."""
        self.path: Path | None = None if path is None else Path(path)
        self.study = study
        self.results: dict[str, Result] = {}
        self._file: Any = None
        if self.path is None:
            return
        if self.path.suffix not in _SUFFIXES:
            raise SweepError(
                f"{str(path)!r} names no format of results.",
                why="The suffix says how results are kept.",
                cure=f"Use one of {', '.join(_SUFFIXES)}.",
            )
        if not self.path.parent.is_dir():
            raise SweepError(
                f"{str(path)!r} cannot be written: there is no directory {str(self.path.parent)!r}.",
                why="costax makes files, not directories.",
                cure="Make the directory first, or give another path.",
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
        """Where the lines are kept."""
        assert self.path is not None
        return self.path.with_name(f"{self.path.name}.jsonl") if self._is_table else self.path

    def add(self, result: Result) -> None:
        """Keep a result, and write it down."""
        self.results[key_of(result["point"])] = result
        if self._file is not None:
            self._file.write((json.dumps(result) + "\n").encode())
            self._file.flush()

    def close(self, *, complete: bool) -> None:
        """Close the file; when all points are done, lines beside a table become the table."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if complete and self._is_table:
            write_table(cast(Path, self.path), self.study, self.results.values())
            self.lines.unlink()

    def _open(self) -> None:
        lines = self.lines
        fresh = not lines.exists() or lines.stat().st_size == 0
        if not fresh:
            self._read_lines(lines)
            fresh = lines.stat().st_size == 0
        try:
            self._file = lines.open("ab")
        except OSError as error:
            raise SweepError(
                f"{str(lines)!r} cannot be written: {error.strerror or error}.",
                why="Results would be lost when the sweep ends.",
                cure="Give a path that you may write to.",
            ) from error
        if fresh:
            self._file.write((json.dumps({"schema": SCHEMA, "study": self.study}) + "\n").encode())
            self._file.flush()

    def _read_lines(self, path: Path) -> None:
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            # The last line was being written when its process ended.
            with path.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines()):
            try:
                entry: Any = json.loads(line)
            except ValueError as error:
                raise _not_ours(path, f"line {number + 1} is not JSON") from error
            if number == 0:
                self._check_header(path, entry)
            elif isinstance(entry, dict) and "point" in entry:
                self.results[key_of(cast("Any", entry)["point"])] = cast(Result, entry)
            else:
                raise _not_ours(path, f"line {number + 1} is no result")

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
        found: Any = cast("Any", header).get("schema") if isinstance(header, dict) else None
        if found != SCHEMA:
            raise _not_ours(path, "it does not begin as one")
        if header["study"] != self.study:
            raise SweepError(
                f"{str(path)!r} holds the results of another study: {header['study']}.",
                why=f"This one is {self.study}; their points would be mixed.",
                cure="Give another file, or remove that one.",
            )


def _not_ours(path: Path, reason: str) -> SweepError:
    return SweepError(
        f"{str(path)!r} is no file of a sweep: {reason}.",
        why="Results are added to it, and it is not overwritten.",
        cure="Give another path.",
    )


def write_table(path: Path, study: str, results: Iterable[Result]) -> None:
    """Write results as a Parquet table: a column for each name of the points and each count; whole or not at all."""
    arrow, parquet = _arrow()
    rows = [flat(result) for result in results]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column(arrow, [row.get(name) for row in rows]) for name in names}
    columns["result"] = arrow.array([json.dumps(result) for result in results], arrow.string())
    table = arrow.table(columns).replace_schema_metadata({"costax": json.dumps({"schema": SCHEMA, "study": study})})
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        parquet.write_table(table, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _column(arrow: Any, values: list[Any]) -> Any:
    kinds: set[type[Any]] = {type(value) for value in values if value is not None}
    if kinds == {int} and any(abs(value) >= _INT64 for value in values if value is not None):
        from decimal import Decimal

        # Exact still: 38 digits, then 76.
        largest = max(len(str(abs(value))) for value in values if value is not None)
        kind = arrow.decimal128(38) if largest <= 38 else arrow.decimal256(76)
        return arrow.array([None if value is None else Decimal(value) for value in values], kind)
    if len(kinds) > 1 and kinds != {int, float}:
        return arrow.array(
            [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
        )
    return arrow.array(values)


def flat(result: Result) -> dict[str, Any]:
    """Return a result as one row: the point's names, the counts, the error, the seconds."""
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
            cure="pip install 'costax[sweep]', or keep the results in a .jsonl file.",
        ) from error
    return cast(Any, pyarrow), cast(Any, pyarrow).parquet
