"""Technologies: the energy of single operations by process node, with sources."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from costax.errors import DeviceError

_FILE: Final = Path(__file__).parent / "technologies.toml"


@dataclass(frozen=True, slots=True)
class Technology:
    """A process node: picojoules by operation, such as `bf16_multiply`, and of one byte of memory."""

    id: str
    name: str
    source: str
    picojoules: Mapping[str, float]
    unverified: Sequence[str] = ()

    def multiply_add(self, kind: str) -> float:
        """Return the picojoules of a multiply-accumulate. Operands of 8 and 16 bits accumulate in 32 bits.

        kind: the precision class of the operands, such as "bf16".
        """
        accumulator = "int32_add" if kind.startswith("int") else "fp32_add"
        return self.operation(kind, "multiply") + self.picojoules[accumulator]

    def operation(self, kind: str, what: str = "add") -> float:
        """Return the picojoules of an "add" or "multiply"; a class without a value takes the next wider class."""
        for wider in _WIDER[kind]:
            energy = self.picojoules.get(f"{wider}_{what}")
            if energy is not None:
                # From 32 to 64 bits the energy of an addition doubles and that of a multiplication quadruples.
                return energy * ((4 if what == "multiply" else 2) if kind == "fp64" else 1)
        raise AssertionError(f"The table {self.id} has no energy for {kind}_{what}.")


_WIDER: Final[Mapping[str, Sequence[str]]] = {
    "int4": ("int8",),
    "int8": ("int8",),
    "fp4": ("fp8", "fp16"),
    "fp8": ("fp8", "fp16"),
    "fp16": ("fp16",),
    "bf16": ("bf16", "fp16"),
    "fp32": ("fp32",),
    "fp64": ("fp32",),
}


@cache
def technologies() -> Mapping[str, Technology]:
    """Return every technology by its id."""
    data = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {
        name: Technology(
            name,
            entry["name"],
            entry["source"],
            {key: value for key, value in entry.items() if isinstance(value, float)},
            tuple(entry.get("unverified", ())),
        )
        for name, entry in data.items()
    }


def technology(name: str) -> Technology:
    """Return a technology by its id. Raises DeviceError for an unknown id."""
    table = technologies().get(name)
    if table is None:
        raise DeviceError(
            f"There is no table of energies for {name!r}.",
            why=f"costax has tables for {', '.join(technologies())}.",
            cure='Pass, for example, technology="7nm".',
        )
    return table
