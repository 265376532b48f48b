"""The reader of records: it checks the type of every value and the sum of the rows, and its errors name the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar, cast

from costax.analysis.analysis import Analysis
from costax.analysis.exactness import EXACT, WORDS
from costax.core.cost import KINDS, Cost
from costax.core.equation import Operand
from costax.core.polynomial.parse import parse_polynomial
from costax.core.polynomial.symbol_values import Condition
from costax.core.size import Size
from costax.errors import Missing, RecordError, SymbolError
from costax.program.tree import DIRECTIONS, Choice, Row, Scope, Unknown

# Larger integers are no counts; Python prints no integer of more than 4,300 digits.
_MOST_BITS: Final = 4096
# Each scope around a scope has a path of its own, which is quadratic in its parts.
_MOST_PARTS: Final = 1000
FAMILY: Final = "costax/analysis/"
NEWEST: Final = 2
# The fields that schema 2 added, with their values for a record of schema 1, in which every size is a number.
_SINCE_2: Final[Mapping[str, Any]] = {
    "symbols": [],
    "conditions": [],
    "extents": [],
    "exact_by": "",
    "reason": "",
    "point": {},
    "choices": [],
    "exactness": EXACT,
    "even_share": False,
}

_T = TypeVar("_T")
_WORDS: Final[Mapping[Any, str]] = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


class RecordReader:
    """Reads one record. origin: the name of the record in error messages, its path for a file."""

    def __init__(self, origin: str) -> None:
        """Store the name of the record."""
        self.origin = origin
        self.least: dict[str, int] = {}

    def analysis(self, record: Any) -> Analysis:
        """Return the analysis that a record holds. Raises RecordError."""
        self.check_schema(record, FAMILY, NEWEST)
        record = _completed(record)
        self._read_symbols(record)
        rows: dict[Row, Cost] = {}
        for place, entry in self._entries(record, "rows"):
            row = Row(
                self._scope(entry, "scope", place),
                self._choice(entry, "direction", place, DIRECTIONS),
                self._get(entry, "primitive", str, place),
                self._get(entry, "source", str, place),
            )
            rows[row] = rows.get(row, Cost()) + self._counts(entry, place)
        total = self._cost(record, "total")
        self._choice(record, "exactness", "", WORDS)
        if Cost.sum(rows.values()) != total:
            raise self._wrong("the sum of the rows is not the total")
        return Analysis(
            name=self._get(record, "name", str),
            total=total,
            inputs=tuple(
                (self._get(x, "path", str, place), Operand(self._shape(x, place), self._get(x, "dtype", str, place)))
                for place, x in self._entries(record, "inputs")
            ),
            unknowns=tuple(
                Unknown(
                    self._get(x, "place", str, place),
                    self._get(x, "source", str, place),
                    self._count(x, "assumed", place),
                    answered=self._get(x, "answered", bool, place),
                )
                for place, x in self._entries(record, "unknowns")
            ),
            uncounted=tuple(self._missing(x, place) for place, x in self._entries(record, "uncounted")),
            choices=tuple(self._undecided(x, place) for place, x in self._entries(record, "choices")),
            parameters=self._parameters(record),
            per_device=self._cost(record, "per_device"),
            devices=self._get(record, "devices", int),
            even_share=self._get(record, "even_share", bool),
            versions=self._versions(record),
            dead_part=self._dead_part(record),
            saved_rows=rows,
            conditions=tuple(
                Condition(
                    self._get(x, "text", str, place),
                    self._count(x, "difference", place),
                    self._choice(x, "relation", place, (">=", "==", "!=")),
                )
                for place, x in self._entries(record, "conditions")
            ),
            extents=self._shape(record, "", "extents"),
            exact_by=self._get(record, "exact_by", str),
            reason=self._get(record, "reason", str),
            point={name: self._get(record["point"], name, int, "point.") for name in self._object(record, "point")},
        )

    def _read_symbols(self, record: Any) -> None:
        for place, x in self._entries(record, "symbols"):
            self.least[self._get(x, "name", str, place)] = self._get(x, "least", int, place)

    def _count(self, entry: Any, key: str, place: str = "") -> Any:
        """Return a count: an integer, or a polynomial, which the record holds as a string."""
        if isinstance(entry.get(key), str):
            return self._formula(entry[key], f"{place}{key}")
        return self._get(entry, key, int, place)

    def _formula(self, text: str, place: str) -> Any:
        with suppress(SymbolError):
            count = parse_polynomial(text, self.least)
            if set(getattr(count, "symbols", ())) <= set(self.least):
                return count
        names = _brief(", ".join(self.least)).strip("'") or "no symbols"
        raise self._wrong(f"{place} is {_brief(text)}, neither an integer nor a formula of {names}")

    def check_schema(self, record: Any, family: str, newest: int) -> None:
        """Check the schema of a record. Raises RecordError for another family of records, and for a newer schema."""
        schema = cast(dict[str, Any], record).get("schema") if isinstance(record, dict) else None
        if isinstance(schema, str) and schema.startswith("costax/") and not schema.startswith(family):
            raise RecordError(
                f"{self.origin} is a record of another kind: its schema is {_brief(schema)}.",
                why="`costax show` reads the records of analyze and compare, costax/analysis/, costax/comparison/ and "
                "costax/hlo/; `costax.load` and `costax diff` those of programs, not of HLO files.",
                cure="Read its fields as JSON. For its tables, give the command that wrote it again, without --json. "
                "To compare HLO modules, pass their files.",
            )
        if not isinstance(schema, str) or not schema.startswith(family):
            fault = "it has no schema" if schema is None else f"its schema is {_brief(schema)}"
            raise self._wrong(f"{fault}; the schema must be {family}{newest}")
        number = schema.removeprefix(family)
        if number.isdecimal() and len(number) < 10 and int(number) > newest:
            raise RecordError(
                f"{self.origin} was written by a newer costax: its schema is {schema}.",
                why=f"This costax reads schemas up to {family}{newest}; a newer schema may use fields differently.",
                cure="Install a newer costax: git pull and `pip install .` in its clone.",
            )
        if number not in map(str, range(1, newest + 1)):
            raise self._wrong(f"the schema {_brief(schema)} does not exist")

    def _undecided(self, x: Any, place: str) -> Choice:
        return Choice(
            self._get(x, "place", str, place),
            self._get(x, "source", str, place),
            self._choice(x, "how", place, ("max", "min", "mean")),
            None if x.get("branch", ...) is None else self._get(x, "branch", int, place),
            self._get(x, "branches", int, place),
        )

    def _missing(self, x: Any, place: str) -> Missing:
        primitive, source, inputs, outputs, params, reason = (
            self._get(x, key, str, place) for key in ("primitive", "source", "inputs", "outputs", "params", "reason")
        )
        return Missing(primitive, source, inputs, outputs, params, self._get(x, "count", int, place), reason)

    def _parameters(self, record: Any) -> dict[tuple[Scope, str], Size] | None:
        if record.get("parameters", ...) is None:
            return None
        sizes: dict[tuple[Scope, str], Size] = {}
        for place, x in self._entries(record, "parameters"):
            key = (self._scope(x, "scope", place), self._get(x, "dtype", str, place))
            size = Size(self._count(x, "elements", place), self._count(x, "bytes", place))
            sizes[key] = sizes.get(key, Size()) + size
        return sizes

    def _versions(self, record: Any) -> dict[str, str]:
        versions = self._object(record, "versions")
        return {name: self._get(versions, name, str, "versions.") for name in versions}

    def _dead_part(self, record: Any) -> Any:
        dead = self._cost(record, "dead_code")
        return lambda: dead

    def _cost(self, record: Any, key: str) -> Cost:
        return self._counts(self._object(record, key), f"{key}.")

    def _counts(self, entry: Any, place: str) -> Cost:
        counts: dict[tuple[str, str], int] = {}
        for kind, by_dtype in self._object(entry, "counts", place).items():
            if kind not in KINDS:
                raise self._wrong(f"{place}counts has the unknown kind {_brief(kind)}")
            self._typed(by_dtype, dict, f"{place}counts.{kind}")
            for dtype in by_dtype:
                counts[kind, dtype] = self._count(by_dtype, dtype, f"{place}counts.{kind}.")
        return Cost(counts)

    def _shape(self, x: Any, place: str, key: str = "shape") -> tuple[int, ...]:
        extents = self._list(x, key, place)
        return tuple(
            self._formula(extent, f"{place}{key}[{i}]")
            if isinstance(extent, str)
            else self._typed(extent, int, f"{place}{key}[{i}]")
            for i, extent in enumerate(extents)
        )

    def _scope(self, entry: Any, key: str, place: str) -> Scope:
        parts = tuple(part for part in self._get(entry, key, str, place).split("/") if part)
        if len(parts) > _MOST_PARTS:
            raise self._wrong(f"{place}{key} has {len(parts):,} parts, and {_MOST_PARTS:,} is the limit")
        return parts

    def _choice(self, entry: Any, key: str, place: str, choices: Sequence[str]) -> str:
        value = self._get(entry, key, str, place)
        if value not in choices:
            raise self._wrong(f"{place}{key} is {_brief(value)}, not one of {', '.join(choices)}")
        return value

    def _entries(self, record: Any, key: str) -> list[tuple[str, dict[str, Any]]]:
        entries = self._list(record, key)
        return [(f"{key}[{i}].", self._typed(entry, dict, f"{key}[{i}]")) for i, entry in enumerate(entries)]

    def _object(self, entry: Any, key: str, place: str = "") -> dict[str, Any]:
        return cast(dict[str, Any], self._get(entry, key, dict, place))

    def _list(self, entry: Any, key: str, place: str = "") -> list[Any]:
        return cast(list[Any], self._get(entry, key, list, place))

    def _get(self, entry: Any, key: str, kind: type[_T], place: str = "") -> _T:
        if key not in entry:
            raise self._wrong(f"{place}{key} is missing")
        return self._typed(entry[key], kind, f"{place}{key}")

    def _typed(self, value: Any, kind: type[_T], place: str) -> _T:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self._wrong(f"{place} is {_brief(value)}, not {_WORDS[kind]}")
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise self._wrong(f"{place} is {_brief(value)}, more than any count")
        return value

    def _floats(self, stage: Any, key: str, place: str) -> dict[str, Any]:
        numbers = self._object(stage, key, place)
        return {name: self._number(numbers, name, f"{place}{key}.") for name in numbers}

    def _number(self, entry: Any, key: str, place: str) -> Any:
        value = entry.get(key, ...)
        return value if isinstance(value, float) else self._get(entry, key, int, place)

    def _maybe(self, entry: Any, key: str, place: str) -> bool | None:
        return None if entry.get(key, ...) is None else self._get(entry, key, bool, place)

    def _wrong(self, reason: str) -> RecordError:
        return RecordError(
            f"{self.origin} is not a record of costax: {reason}.",
            why="A damaged or foreign record would show wrong numbers.",
            cure="Save it again: costax analyze TARGET --save FILE.json, or analysis.save(path).",
        )


def _brief(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"an integer of {value.bit_length():,} bits"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _completed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record of any schema with all fields of the newest schema."""
    return {**_SINCE_2, **record} if record["schema"] == f"{FAMILY}1" else record
