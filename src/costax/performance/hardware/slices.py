"""Several devices of a kind: names of slices of TPUs and of GPUs in hosts, such as `v5e-8`, `tpu:v5e:2x4`, `h100:8`.

Google's names end in a number of chips (v5e, v6e) or of cores, of which a chip has two (v2 to v4, v5p, TPU7x).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Final

from costax.errors import DeviceError
from costax.performance.hardware.library import device
from costax.performance.hardware.specification import Device

_MOST: Final = 1_000_000
# Longer numbers are beyond it.
_DIGITS: Final = 8
# tpu:v5e:2x4, cuda:h100:2x8, h100:8; further slices of the same shape may follow: tpu:v5e:2x4:3.
_SHAPE: Final = re.compile(r"(?:(?:tpu|cuda):)?(?P<name>[^:]+?)(?::(?P<shape>\d+(?:x\d+)*(?::\d+)?))?")
# v5e-8, v5litepod-8, tpu7x-8 and 8xh100.
_NUMBERED: Final = re.compile(r"(?P<name>.+?)-(?P<count>\d+)")
_TIMES: Final = re.compile(r"(?P<count>\d+)x(?P<name>[a-z].*)")
_GOOGLES: Final = {"v5litepod": "v5e", "v5lite": "v5e", "tpu7x": "v7x"}


@dataclass(frozen=True, slots=True)
class Slice:
    """Devices of one kind that a program may use together. devices: how many jax sees; None where the name has none."""

    device: Device
    devices: int | None = None


def slice_of(name: str | Device) -> Slice:
    """Return the device of a name and how many of them the name says that there are.

    Args:
        name: As for `device`, or several: `v5e-8`, `v5p-8` (eight cores: four chips), `tpu:v5e:2x4`, `h100:8`,
            `cuda:h100:2x8`, `8xh100`.

    Raises DeviceError for an unknown device or a number that no slice has.
    """
    if isinstance(name, Device) or name.endswith(".toml"):
        return Slice(device(name))
    try:
        return Slice(device(name))
    except DeviceError as error:
        found = _several(name.strip().lower())
        if found is None:
            meant = _with_hyphen(name.strip().lower())
            if not meant:
                raise
            raise DeviceError(error.what, why=error.why, cure=f"Did you mean {meant}?") from None
        return found


def _several(name: str) -> Slice | None:
    """Return several devices; None for a name of no known device."""
    shaped, times, numbered = _SHAPE.fullmatch(name), _TIMES.fullmatch(name), _NUMBERED.fullmatch(name)
    if shaped and (kind := _known(shaped["name"])):
        # Without a shape it is the name of a target for one chip: tpu:v5e.
        chips = prod(int(extent[:_DIGITS]) for extent in re.split("[x:]", shaped["shape"])) if shaped["shape"] else None
        return _of_chips(kind, chips, name)
    if times and (kind := _known(times["name"])):
        return _of_chips(kind, int(times["count"][:_DIGITS]), name)
    # The number behind a GPU is that of its gigabytes: a100-40.
    if numbered and (kind := _known(numbered["name"])) and kind.family == "tpu":
        count = int(numbered["count"][:_DIGITS])
        if count % kind.cores:
            raise DeviceError(
                f"There is no slice {name!r}.",
                why=f"The names of slices of {kind.name} count cores, and a chip has {kind.cores}.",
                cure=f"A slice of {count} chips is {numbered['name']}-{count * kind.cores}.",
            )
        return _of_chips(kind, count // kind.cores, name)
    return None


def _with_hyphen(name: str) -> str:
    """Return the name of a slice of TPUs that was written without its hyphen, `v5e8`; "" for any other name."""
    for end in range(len(name) - 1, 0, -1):
        numbered = f"{name[:end]}-{name[end:]}"
        if name[end:].isdecimal() and _several(numbered) is not None:
            return numbered
    return ""


def _known(name: str) -> Device | None:
    try:
        return device(_GOOGLES.get(name, name))
    except DeviceError:
        return None


def _of_chips(kind: Device, chips: int | None, name: str) -> Slice:
    if chips is None:
        return Slice(kind)
    if not 0 < chips <= _MOST:
        raise DeviceError(
            f"{name!r} names no number of devices that there can be.",
            why=f"It lies between 1 and {_MOST:,}.",
            cure="Use for example v5e-8, tpu:v5e:2x4 or h100:8.",
        )
    return Slice(kind, chips * kind.jax_devices)
