"""The error for damaged HLO modules, and safe text from them."""

from __future__ import annotations

from typing import Final

from costax.core.printable import printable
from costax.errors import HloError

_DUMP: Final = (
    "Write the module again: compiled.runtime_executable().hlo_modules()[0].as_serialized_hlo_module_proto(), "
    "or XLA_FLAGS=--xla_dump_to=DIR --xla_dump_hlo_as_proto."
)


def malformed(what: str, *, where: str = "") -> HloError:
    """Return the error for a file that is not a well-formed HLO module."""
    return HloError(
        printable(what),
        where=printable(where),
        why="The cost of a damaged module could be wrong without any sign of it.",
        cure=_DUMP,
    )


def not_hlo(what: str, *, where: str, cure: str = "") -> HloError:
    """Return the error for a file that holds something else than an HLO module; `cure` says how to count that."""
    return HloError(
        printable(f"The file holds {what}, not HLO"),
        where=printable(where),
        why="costax reads HLO, as text or serialised, StableHLO, and the files of jax.export.",
        cure=cure or _DUMP,
    )


def unbounded(shape: str, *, where: str) -> HloError:
    """Return the error for a program with a size that is not a number."""
    return HloError(
        printable(f"{shape} has a size that the program does not fix"),
        where=printable(where),
        why="XLA's cost model counts modules whose sizes are numbers.",
        cure="Lower the program with fixed shapes. For a file of jax.export, give it arguments: "
        "costax.analyze(jax.export.deserialize(contents).call)(*args).",
    )


def too_large_for_xla(size: int, where: str) -> HloError:
    """Return the error for a module that XLA's own parser cannot hold. size: of the serialised module, in bytes."""
    return HloError(
        "XLA's parser needs more than 8 GiB of memory for the module",
        where=printable(where),
        why=f"costax runs XLA's cost analysis of a file in a process with 8 GiB. The file is well formed, as far as "
        f"costax reads it: {size:,} bytes.",
        cure="Count it without XLA's own number: costax analyze FILE.",
    )
