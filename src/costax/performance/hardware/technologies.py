"""Technologies: picojoules of single operations by process node, with their sources."""

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
    """A process node: picojoules by operation, such as `bf16_multiply`, and of a byte of memory."""

    id: str
    name: str
    source: str
    picojoules: Mapping[str, float]
    unverified: Sequence[str] = ()

    def multiply_add(self, kind: str) -> float:
        """Return picojoules of a multiply-accumulate of operands of a class; 8 and 16 bits accumulate in 32."""
        accumulator = "int32_add" if kind.startswith("int") else "fp32_add"
        return self.operation(kind, "multiply") + self.picojoules[accumulator]

    def operation(self, kind: str, what: str = "add") -> float:
        """Return picojoules of an operation on a class of operands; a class that no table has takes the next wider."""
        for wider in _WIDER[kind]:
            found = self.picojoules.get(f"{wider}_{what}")
            if found is not None:
                # An operation of 64 bits takes twice (an addition) or four times (a multiplication) that of 32.
                return found * ((4 if what == "multiply" else 2) if kind == "fp64" else 1)
        raise AssertionError(f"{self.id} has no {kind}_{what}")


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
    """Return a technology by its id. Raises DeviceError where nobody knows it."""
    found = technologies().get(name)
    if found is None:
        raise DeviceError(
            f"There is no table of energies for {name!r}.",
            why=f"costax has {', '.join(technologies())}.",
            cure='Pass for example technology="7nm".',
        )
    return found
