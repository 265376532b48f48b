"""The library of devices: one TOML each, those of costax and those of the user, and how a file is read."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from costax.errors import DeviceError
from costax.performance.hardware.device import Device, Figure, Link

_OWN: Final = Path(__file__).parent / "devices"
_VARIABLE: Final = "COSTAX_DEVICES"


def user_folder() -> Path:
    """Return the folder of the user's own device files: $COSTAX_DEVICES, or ~/.config/costax/devices."""
    named = os.environ.get(_VARIABLE)
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(named) if named else Path(base) / "costax" / "devices"


def devices() -> dict[str, Device]:
    """Return every device by its id, the user's own first; one of the same id takes the place of costax's."""
    folder = user_folder()
    own = {path.stem: read(path) for path in sorted(folder.glob("*.toml"))} if folder.is_dir() else {}
    return {**own, **{name: found for name, found in _shipped().items() if name not in own}}


def device(name: str | Device) -> Device:
    """Return a device by its id, an alias, or the path of its file. Raises DeviceError where there is none."""
    if isinstance(name, Device):
        return name
    if name.endswith(".toml"):
        return read(Path(name))
    known = devices()
    wanted = name.lower()
    if wanted in known:
        return known[wanted]
    found = next((d for d in known.values() if wanted in d.aliases), None)
    if found is not None:
        return found
    if wanted == "cpu":
        raise DeviceError(
            "This machine's CPU is not measured yet.",
            why="A processor is calibrated, never tabulated: its speed depends on the machine around it.",
            cure="Run `costax calibrate` once; it takes less than two minutes.",
        )
    names = [*known, *(alias for d in known.values() for alias in d.aliases)]
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.4)
    raise DeviceError(
        f"There is no device {name!r}.",
        why="`costax devices` lists those that costax knows.",
        cure=f"Did you mean {' or '.join(near)}?" if near else f"Add a file of your own to {user_folder()}.",
    )


@cache
def _shipped() -> Mapping[str, Device]:
    return {path.stem: read(path) for path in sorted(_OWN.glob("*.toml"))}


def read(path: Path) -> Device:
    """Return the device that a file describes. Raises DeviceError where it does not."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        _refuse(path, f"cannot be read: {error.strerror or error}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        _refuse(path, f"is not TOML: {error}")
    return _Reader(path, data).device()


class _Reader:
    """Reads one file; every complaint names it and the key."""

    def __init__(self, path: Path, data: Mapping[str, Any]) -> None:
        self.path = path
        self.data = data
        self.sources: Mapping[str, Any] = data.get("sources", {})

    def device(self) -> Device:
        known = {f.name for f in _FIELDS} | _TABLES
        for key in self.data:
            if key not in known:
                _refuse(self.path, f"has {key!r}, which means nothing; it may have {', '.join(sorted(known))}")
        memory, link = self.table("memory"), self.data.get("link")
        return Device(
            id=self.path.stem,
            name=self.text("name"),
            vendor=self.text("vendor"),
            aliases=tuple(self.data.get("aliases", ())),
            peaks=self.figures("peak"),
            bandwidth=self.optional(memory, "bandwidth", "memory"),
            capacity=self.optional(memory, "capacity", "memory"),
            usable=self.optional(memory, "usable", "memory"),
            on_chip=self.figures("on_chip"),
            link=self.link(link) if link else None,
            power=self.figures("power"),
            clock=self.optional(self.data, "clock", ""),
            efficiency=self.figures("efficiency"),
            notes=tuple(self.data.get("notes", ())),
            jax_devices=self.data.get("jax_devices", 1),
            compile_for=self.data.get("compile_for", ""),
            units=self.data.get("units", ""),
            rates=self.data.get("rates", {}),
            calibrated=str(self.data.get("calibrated", "")),
        )

    def text(self, key: str) -> str:
        found = self.data.get(key)
        if not isinstance(found, str) or not found:
            _refuse(self.path, f"has no {key!r}")
        return found

    def table(self, key: str) -> Mapping[str, Any]:
        found = self.data.get(key, {})
        if not isinstance(found, dict):
            _refuse(self.path, f"has in {key!r} no table")
        return cast("Mapping[str, Any]", found)

    def figures(self, key: str) -> dict[str, Figure]:
        return {name: self.figure(entry, f"{key}.{name}") for name, entry in self.table(key).items()}

    def optional(self, table: Mapping[str, Any], key: str, prefix: str) -> Figure | None:
        return self.figure(table[key], f"{prefix}.{key}".strip(".")) if key in table else None

    def figure(self, entry: Any, key: str) -> Figure:
        given: Mapping[str, Any] = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        value = given.get("value")
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            _refuse(self.path, f"has in [{key}] no positive `value`")
        name: Any = given.get("source")
        if name not in self.sources:
            _refuse(self.path, f"names in [{key}] no source of its [sources]")
        source = self.sources[name]
        return Figure(
            value,
            source.get("title", ""),
            source.get("url", ""),
            str(source.get("date", "")),
            given.get("unverified", False),
        )

    def link(self, entry: Mapping[str, Any]) -> Link:
        topology = entry.get("topology")
        if topology not in _TOPOLOGIES:
            _refuse(self.path, f"has in [link] the topology {topology!r}, not one of {', '.join(_TOPOLOGIES)}")
        send = self.figure(entry.get("send"), "link.send")
        return Link(entry.get("kind", ""), topology, entry.get("axes", 1), entry.get("links", 1), send)


_TOPOLOGIES: Final = ("switch", "torus", "mesh", "pair", "bus")
_TABLES: Final = {"peak", "memory", "link", "sources", "compiler", "peak_per_core_per_cycle"}
_FIELDS: Final = tuple(_f for _f in Device.__dataclass_fields__.values())


def _refuse(path: Path, what: str) -> NoReturn:
    raise DeviceError(
        f"{str(path)!r} {what}.",
        why="A device file is TOML: name, vendor, [peak.*], [memory.*], [link], [power.*], each number with a source.",
        cure="Take one of costax's as a pattern: costax devices h100-sxm --file.",
    )


def source_text(found: Device) -> str:
    """Return the text of a device's file."""
    for folder in (user_folder(), _OWN):
        path = folder / f"{found.id}.toml"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    _refuse(Path(f"{found.id}.toml"), "is no file of the library")
