"""The library of devices: one TOML file for each device, shipped with costax or written by the user."""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from costax.core.listing import Entries
from costax.errors import DeviceError
from costax.performance.hardware.device_file import read, refuse
from costax.performance.hardware.specification import Device

_OWN: Final = Path(__file__).parent / "devices"
_WORDS: Final = re.compile("[a-z0-9]+")
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
    return Entries(known)


def device(name: str | Device) -> Device:
    """Return a device by its id, an alias, the name that jax gives it (`device_kind`) or the path of its file.

    Args:
        name: An id or alias that `costax devices` lists, the path of a device file, or a Device.

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
    by_alias = next(
        (d for d in known.values() if wanted in d.aliases or wanted in map(str.lower, d.device_kinds)), None
    )
    if by_alias is not None:
        return by_alias
    if wanted == "cpu":
        raise DeviceError(
            "There is no device file for the CPU of this machine.",
            why="The speed of a CPU depends on the whole machine, so costax measures it and has no table for it.",
            cure="Run `costax calibrate` once. It takes about a minute.",
        )
    matches = _by_words(wanted, known) or difflib.get_close_matches(
        wanted, [*known, *(alias for d in known.values() for alias in d.aliases)], n=3, cutoff=0.4
    )
    left_out = "".join(f"\nA device file was left out: {error.what}" for error in faults.values())
    raise DeviceError(
        f"There is no device {name!r}.",
        why=f"`costax devices` lists those that costax knows.{left_out}",
        cure=f"Did you mean {' or '.join(matches)}?" if matches else f"Add a device file to {user_folder()}.",
    )


def _by_words(wanted: str, known: Mapping[str, Device]) -> list[str]:
    """Return the ids of at most three devices with the words of a text: all of them, else an id or alias among them.

    An id or alias among the words comes first: "nvidia h100" is rather the device with the alias h100 than h100-pcie.
    """
    words = set(_WORDS.findall(wanted))
    named = [name for name, listed in known.items() if words & {name, *map(str.lower, listed.aliases)}]
    texts = {name: (name, d.name, *d.aliases, *d.device_kinds) for name, d in known.items()}
    full = [name for name, own in texts.items() if words and words <= set(_WORDS.findall(" ".join(own).lower()))]
    return [*(name for name in named if name in full), *(name for name in full if name not in named)][:3] or named[:3]


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


def source_text(listed: Device) -> str:
    """Return the text of the file of a device. Raises DeviceError if the library has no such file."""
    for folder in (user_folder(), _OWN):
        path = folder / f"{listed.id}.toml"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    refuse(Path(f"{listed.id}.toml"), "is not in the library of devices")
