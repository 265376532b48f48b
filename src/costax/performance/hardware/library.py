"""The library of devices: one TOML file for each device, shipped with costax or written by the user."""

from __future__ import annotations

import difflib
import os
import tomllib
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from costax.errors import DeviceError
from costax.performance.hardware.specification import Device, Figure, Link

_OWN: Final = Path(__file__).parent / "devices"
_VARIABLE: Final = "COSTAX_DEVICES"


class DeviceFileWarning(UserWarning):
    """A file in a folder of device files does not describe a device, and is left out."""


def user_folder() -> Path:
    """Return the folder of the user's device files: $COSTAX_DEVICES, else ~/.config/costax/devices."""
    folder = os.environ.get(_VARIABLE)
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) if folder else Path(base) / "costax" / "devices"


def devices() -> dict[str, Device]:
    """Return every device by its id, those of the user first. A user's file hides a shipped file of the same id.

    A file that does not describe a device is left out, with a warning that names the file.
    """
    known, faults = _read_all()
    for error in faults.values():
        warnings.warn(f"A device file was left out: {error.what}", DeviceFileWarning, stacklevel=2)
    return known


def device(name: str | Device) -> Device:
    """Return a device by its id, an alias or the path of its file.

    Raises DeviceError if there is none, or if the file of this device does not describe a device. Other files may be
    wrong: the fault of a file is reported only where the device of that file is asked for.
    """
    if isinstance(name, Device):
        return name
    if name.endswith(".toml"):
        return read(Path(name))
    known, faults = _read_all()
    wanted = name.lower()
    if wanted in faults:
        raise faults[wanted].with_traceback(None)
    if wanted in known:
        return known[wanted]
    by_alias = next((d for d in known.values() if wanted in d.aliases), None)
    if by_alias is not None:
        return by_alias
    if wanted == "cpu":
        raise DeviceError(
            "There is no device file for the CPU of this machine.",
            why="The speed of a CPU depends on the whole machine, so costax measures it and has no table for it.",
            cure="Run `costax calibrate` once. It takes less than two minutes.",
        )
    names = [*known, *(alias for d in known.values() for alias in d.aliases)]
    matches = difflib.get_close_matches(wanted, names, n=3, cutoff=0.4)
    left_out = "".join(f"\nA device file was left out: {error.what}" for error in faults.values())
    raise DeviceError(
        f"There is no device {name!r}.",
        why=f"`costax devices` lists those that costax knows.{left_out}",
        cure=f"Did you mean {' or '.join(matches)}?" if matches else f"Add a device file to {user_folder()}.",
    )


def _read_all() -> tuple[dict[str, Device], dict[str, DeviceError]]:
    """Return all devices, and the errors of the files that describe none, by id; those of the user first."""
    folder = user_folder()
    own = _read_folder(folder) if folder.is_dir() else {}
    every = {**own, **{name: shipped for name, shipped in _shipped().items() if name not in own}}
    known = {name: entry for name, entry in every.items() if isinstance(entry, Device)}
    return known, {name: entry for name, entry in every.items() if isinstance(entry, DeviceError)}


@cache
def _shipped() -> Mapping[str, Device | DeviceError]:
    return _read_folder(_OWN)


def _read_folder(folder: Path) -> dict[str, Device | DeviceError]:
    """Return the device of each file of a folder, or the error of the file, by the name of the file."""
    entries: dict[str, Device | DeviceError] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            entries[path.stem] = read(path)
        except DeviceError as error:
            entries[path.stem] = error
    return entries


def read(path: Path) -> Device:
    """Return the device that a file describes. Raises DeviceError if the file is not a valid device file."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        _refuse(path, f"cannot be read: {error.strerror or error}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        _refuse(path, f"is not TOML: {error}")
    if not text.strip():
        _refuse(path, "is empty")
    try:
        return _DeviceReader(path, document).device()
    except (AttributeError, TypeError, ValueError) as error:
        _refuse(path, f"has a value of the wrong type: {error}")


class _DeviceReader:
    """Reads one file. Every error names the file and the key."""

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self.path = path
        self.document = document
        self.sources: Mapping[str, Any] = document.get("sources", {})

    def device(self) -> Device:
        known = {f.name for f in _FIELDS} | _TABLES
        for key in self.document:
            if key not in known:
                _refuse(self.path, f"has an unknown key {key!r}; the keys are {', '.join(sorted(known))}")
        memory, link = self.table("memory"), self.document.get("link")
        return Device(
            id=self.path.stem,
            name=self.text("name"),
            vendor=self.text("vendor"),
            aliases=tuple(self.document.get("aliases", ())),
            peaks=self.figures("peak"),
            bandwidth=self.optional(memory, "bandwidth", "memory"),
            capacity=self.optional(memory, "capacity", "memory"),
            usable=self.optional(memory, "usable", "memory"),
            on_chip=self.figures("on_chip"),
            link=self.link(link) if link else None,
            power=self.figures("power"),
            clock=self.optional(self.document, "clock", ""),
            efficiency=self.figures("efficiency"),
            notes=tuple(self.document.get("notes", ())),
            jax_devices=self.document.get("jax_devices", 1),
            compile_for=self.document.get("compile_for", ""),
            units=self.document.get("units", ""),
            rates=self.document.get("rates", {}),
            calibrated=str(self.document.get("calibrated", "")),
        )

    def text(self, key: str) -> str:
        text = self.document.get(key)
        if not isinstance(text, str) or not text:
            _refuse(self.path, f"has no text for the key {key!r}")
        return text

    def table(self, key: str) -> Mapping[str, Any]:
        table = self.document.get(key, {})
        if not isinstance(table, dict):
            _refuse(self.path, f"has a value for {key!r} that is not a table")
        return cast("Mapping[str, Any]", table)

    def figures(self, key: str) -> dict[str, Figure]:
        return {name: self.figure(entry, f"{key}.{name}") for name, entry in self.table(key).items()}

    def optional(self, table: Mapping[str, Any], key: str, prefix: str) -> Figure | None:
        return self.figure(table[key], f"{prefix}.{key}".strip(".")) if key in table else None

    def figure(self, entry: Any, key: str) -> Figure:
        table: Mapping[str, Any] = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        value = table.get("value")
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            _refuse(self.path, f"has no positive `value` in [{key}]")
        name: Any = table.get("source")
        if name not in self.sources:
            _refuse(self.path, f"has a `source` in [{key}] that is not in its [sources]")
        source = self.sources[name]
        return Figure(
            value,
            source.get("title", ""),
            source.get("url", ""),
            str(source.get("date", "")),
            table.get("unverified", False),
        )

    def link(self, entry: Mapping[str, Any]) -> Link:
        topology = entry.get("topology")
        if topology not in _TOPOLOGIES:
            _refuse(self.path, f"has the topology {topology!r} in [link]; the topologies are {', '.join(_TOPOLOGIES)}")
        send = self.figure(entry.get("send"), "link.send")
        return Link(entry.get("kind", ""), topology, entry.get("axes", 1), entry.get("links", 1), send)


_TOPOLOGIES: Final = ("switch", "torus", "mesh", "pair", "bus")
_TABLES: Final = {"peak", "memory", "link", "sources", "compiler", "peak_per_core_per_cycle"}
_FIELDS: Final = tuple(_f for _f in Device.__dataclass_fields__.values())


def _refuse(path: Path, what: str) -> NoReturn:
    raise DeviceError(
        f"{str(path)!r} {what}.",
        why="A device file is TOML: name, vendor, [peak.*], [memory.*], [link], [power.*]; each number has a source.",
        cure="See a valid file: costax devices h100-sxm --file.",
    )


def source_text(listed: Device) -> str:
    """Return the text of the file of a device. Raises DeviceError if the library has no such file."""
    for folder in (user_folder(), _OWN):
        path = folder / f"{listed.id}.toml"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    _refuse(Path(f"{listed.id}.toml"), "is not in the library of devices")
