"""The file of a device: TOML in which every number has a source; whatever nothing reads, or cannot be, is refused."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NoReturn, TypeGuard, cast

from costax.core.listing import shown
from costax.core.regular_files import read_regular
from costax.errors import DeviceError
from costax.performance.hardware.specification import CompilerFacts, Device, Figure, Link, Network

_MOST_BYTES: Final = 1 << 20
# A peak is that at the boost clock of the data sheet, which cooled cards exceed: an RTX 5090 reaches 1.14 of it.
_MOST_OF_PEAK: Final = 1.25


def read(path: Path) -> Device:
    """Return the device that a file describes. Raises DeviceError if the file is not a valid device file."""
    try:
        text = read_regular(path, _MOST_BYTES).decode()
        document = tomllib.loads(text)
    except OSError as error:
        refuse(path, f"cannot be read: {error.strerror or error}")
    except (ValueError, RecursionError) as error:
        refuse(path, f"is not TOML: {error}")
    if not text.strip():
        refuse(path, "is empty")
    try:
        return _DeviceReader(path, document).device()
    except (AttributeError, TypeError, ValueError) as error:
        refuse(path, f"has a value of the wrong type: {error}")


class _DeviceReader:
    """Reads one file. Every error names the file and the key."""

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self.path = path
        self.document = document
        self.sources: Mapping[str, Any] = document.get("sources", {})

    def device(self) -> Device:
        known = (set(Device.__dataclass_fields__) - _OTHER) | _TABLES
        for key in self.document:
            if key not in known:
                refuse(self.path, f"has an unknown key {key!r}; the keys are {', '.join(sorted(known))}")
        memory, link = self.table("memory"), self.document.get("link")
        self.check("peak", PEAKS)
        self.check("memory", ("bandwidth", "capacity", "usable"))
        self.check("power", ("tdp", "idle", "mean", "measured_peak"))
        self.check("efficiency", ("bandwidth", *(f"{peak}_matmul" for peak in PEAKS)))
        efficiency = self.figures("efficiency")
        for name, share in efficiency.items():
            most = 1.0 if name == "bandwidth" else _MOST_OF_PEAK
            if share.value > most:
                refuse(self.path, f"has an efficiency above {most:g} in [efficiency.{name}], a share of a peak")
        return Device(
            id=self.path.stem,
            name=self.text("name"),
            vendor=self.text("vendor"),
            aliases=self.texts("aliases"),
            peaks=shown(self.figures("peak")),
            bandwidth=self.optional(memory, "bandwidth", "memory"),
            capacity=self.optional(memory, "capacity", "memory"),
            usable=self.optional(memory, "usable", "memory"),
            on_chip=shown(self.figures("on_chip")),
            link=self.link(link) if link else None,
            power=self.figures("power"),
            clock=self.optional(self.document, "clock", ""),
            efficiency=shown(efficiency),
            notes=self.texts("notes"),
            jax_devices=self.count(self.document, "jax_devices"),
            cores=self.count(self.document, "cores"),
            compile_for=self.optional_text(self.document, "compile_for"),
            units=self.optional_text(self.document, "units"),
            rates=self.rates("rates", self.table("rates")),
            calibrated=str(self.document.get("calibrated", "")),
            kind=self.family(),
            device_kinds=self.texts("device_kinds"),
            network=self.network(self.table("network")),
            compiler=self.compiler(self.table("compile")),
        )

    def family(self) -> str:
        family = self.document.get("family", "")
        if family not in ("", *FAMILIES):
            refuse(self.path, f"has the family {family!r}; the families are {', '.join(FAMILIES)}")
        return family

    def text(self, key: str) -> str:
        text = self.document.get(key)
        if not isinstance(text, str) or not text:
            refuse(self.path, f"has no text for the key {key!r}")
        return text

    def optional_text(self, table: Mapping[str, Any], key: str) -> str:
        """Return the text of a key, "" where the table does not have it."""
        text = table.get(key, "")
        if not isinstance(text, str):
            refuse(self.path, f"has a value of the wrong type for {key!r}, which is a text")
        return text

    def texts(self, key: str) -> tuple[str, ...]:
        entries = self.document.get(key, [])
        texts: list[Any] = cast("list[Any]", entries) if isinstance(entries, list) else [None]
        if not all(isinstance(text, str) for text in texts):
            refuse(self.path, f"has a value of the wrong type for {key!r}, which is a list of texts")
        return tuple(texts)

    def table(self, key: str) -> Mapping[str, Any]:
        table = self.document.get(key, {})
        if not isinstance(table, dict):
            refuse(self.path, f"has a value for {key!r} that is not a table")
        return cast("Mapping[str, Any]", table)

    def check(self, key: str, known: Sequence[str]) -> None:
        """Refuse a name that nothing reads."""
        for name in self.table(key):
            if name not in known:
                refuse(self.path, f"has an unknown [{key}.{name}]; the names in [{key}] are {', '.join(known)}")

    def count(self, table: Mapping[str, Any], key: str, default: int = 1) -> int:
        value = table.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            refuse(self.path, f"has a value for {key!r} that is no positive integer")
        return value

    def rates(self, key: str, table: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check rates: numbers, lists of [size, rate] with rising sizes, and tables of those."""
        for name, entry in table.items():
            if isinstance(entry, dict):
                self.rates(f"{key}.{name}", cast("Mapping[str, Any]", entry))
            elif not ((_is_number(entry, 0) and entry <= _LARGEST) or _is_curve(entry)):
                refuse(self.path, f"has a value for {key}.{name} that is neither a number nor a list of [size, rate]")
        return table

    def figures(self, key: str) -> dict[str, Figure]:
        return {name: self.figure(entry, f"{key}.{name}") for name, entry in self.table(key).items()}

    def optional(self, table: Mapping[str, Any], key: str, prefix: str) -> Figure | None:
        return self.figure(table[key], f"{prefix}.{key}".strip(".")) if key in table else None

    def figure(self, entry: Any, key: str) -> Figure:
        table: Mapping[str, Any] = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        value = table.get("value")
        if not _is_number(value) or not value > 0:
            refuse(self.path, f"has no positive `value` in [{key}]")
        if not _SMALLEST <= value <= _LARGEST:
            refuse(self.path, f"has a `value` in [{key}] that no device has, {value!s:.40}")
        name: Any = table.get("source")
        if name not in self.sources:
            refuse(self.path, f"has a `source` in [{key}] that is not in its [sources]")
        source = self.sources[name]
        return Figure(
            value,
            self.optional_text(source, "title"),
            self.optional_text(source, "url"),
            str(source.get("date", "")),
            table.get("unverified", False) is True,
        )

    def network(self, entry: Mapping[str, Any]) -> Network | None:
        self.check("network", ("kind", "hosts_of", "send"))
        if not entry:
            return None
        if "hosts_of" not in entry:
            refuse(self.path, "has no `hosts_of` in [network]: how many chips the fast links join")
        kind, send = self.optional_text(entry, "kind"), self.figure(entry.get("send"), "network.send")
        return Network(kind, self.count(entry, "hosts_of"), send)

    def compiler(self, entry: Mapping[str, Any]) -> CompilerFacts | None:
        """Read what a compiler is told; the target in `compile_for` says which compiler it is."""
        self.check("compile", ("capability", "lanes", "clock", "link", "topology", "configuration", "source"))
        if not entry:
            return None
        capability = str(entry.get("capability", "0.0"))
        major, _, minor = capability.partition(".")
        if not (major.isdecimal() and minor.isdecimal()):
            refuse(self.path, f"has the capability {capability!r} in [compile], where a text such as '9.0' belongs")
        return CompilerFacts(
            (int(major), int(minor)),
            self.count(entry, "lanes"),
            self.count(entry, "clock"),
            str(entry.get("link", "")),
            str(entry.get("topology", "")),
            str(entry.get("configuration", "")),
        )

    def link(self, entry: Mapping[str, Any]) -> Link:
        topology = entry.get("topology")
        if topology not in _TOPOLOGIES:
            refuse(self.path, f"has the topology {topology!r} in [link]; the topologies are {', '.join(_TOPOLOGIES)}")
        send = self.figure(entry.get("send"), "link.send")
        kind = self.optional_text(entry, "kind")
        return Link(kind, topology, self.count(entry, "axes"), self.count(entry, "links"), send)


def _is_number(value: object, least: float = float("-inf")) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value < float("inf")


def _is_curve(value: object) -> bool:
    points: list[Any] = cast("list[Any]", value) if isinstance(value, list) else []
    pairs = all(isinstance(point, list) and len(point) == 2 for point in points)  # pyright: ignore[reportUnknownArgumentType]
    if not points or not pairs:
        return False
    if not all(_is_number(x, _SMALLEST) and x <= _LARGEST for point in points for x in point):
        return False
    return all(then[0] < now[0] for then, now in pairwise(points))


PEAKS: Final = (
    *("fp64", "fp64_tensor", "fp64_matrix", "fp32", "fp32_matrix", "tf32", "bf16", "fp16", "fp16_fp16acc"),
    *("fp8", "fp8_fp16acc", "fp4", "int8", "int4", "int32"),
)
"""The units of [peak]."""
# Figures have the units of their keys: FLOP/s, bytes, B/s, W, Hz. Others would make a time of 0 or infinity.
_SMALLEST: Final = 1e-9
_LARGEST: Final = 1e30
_TOPOLOGIES: Final = ("switch", "torus", "mesh", "pair", "bus")
FAMILIES: Final = ("cpu", "gpu", "tpu", "neuron")
_TABLES: Final = {"peak", "memory", "link", "sources", "compiler", "compile", "peak_per_core_per_cycle", "family"}
# The fields of a Device that a file does not name so.
_OTHER: Final = {"id", "kind", "of_chip", "bandwidth", "capacity", "usable"}


def refuse(path: Path, what: str) -> NoReturn:
    """Raise DeviceError for a device file. what: the end of a sentence that begins with its name."""
    raise DeviceError(
        f"{str(path)!r} {what}.",
        why="A device file is TOML: name, vendor, [peak.*], [memory.*], [link], [power.*]; each number has a source.",
        cure="See a valid file: costax devices h100-sxm --file.",
    )
