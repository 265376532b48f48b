"""The error for damaged HLO modules, and safe text from them."""

from __future__ import annotations

from costax.errors import HloError


def malformed(what: str, *, where: str = "") -> HloError:
    """Return the error for a file that is not a well-formed HLO module."""
    return HloError(
        printable(what),
        where=printable(where),
        why="The cost of a damaged module could be wrong without any sign of it.",
        cure="Write the module again: compiled.runtime_executable().hlo_modules()[0]"
        ".as_serialized_hlo_module_proto(), or XLA_FLAGS=--xla_dump_to=DIR --xla_dump_hlo_as_proto.",
    )


def printable(text: str) -> str:
    """Return a text from a file with its control characters replaced: a terminal would obey them."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
