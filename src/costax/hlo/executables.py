"""Executables that jax serialised: the module is in the bytes, also of an executable that this machine cannot load.

`jax.experimental.serialize_executable.serialize` returns a pickle around what the backend wrote, which holds the
optimised module as a message. Nothing is unpickled and nothing is loaded: the message is found by its first fields.
"""

from __future__ import annotations

import re
from typing import Final

from costax.errors import HloError
from costax.hlo.proto import decode

PICKLE: Final = (b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How a pickle begins."""
# Name, name of the entry computation, first computation: fields 1, 2 and 3 of a module, each with its length.
_BEGIN: Final = re.compile(
    rb"\x0a([\x01-\xff]\x01?)([\x20-\x7e]+?)\x12([\x01-\xff]\x01?)([\x20-\x7e]+?)\x1a", re.DOTALL
)
# In a damaged file many places could look like the beginning of a module.
_MOST: Final = 100


def module_in(contents: bytes) -> bytes | None:
    """Return the serialised module in the bytes of an executable; None where there is none that can be read."""
    for tried, match in enumerate(_BEGIN.finditer(contents)):
        if tried == _MOST:
            break
        if any(_length(match[i]) != len(match[i + 1]) for i in (1, 3)):
            continue
        for size in _lengths_before(contents, match.start()):
            message = contents[match.start() : match.start() + size]
            if len(message) == size and _is_module(message):
                return message
    return None


def _length(raw: bytes) -> int:
    return sum((byte & 127) << 7 * i for i, byte in enumerate(raw))


def _lengths_before(contents: bytes, start: int) -> list[int]:
    """Return the numbers that may end before a place, as a length of one to five bytes in the form of a varint."""
    found: list[int] = []
    for count in range(1, 6):
        raw = contents[max(start - count, 0) : start]
        if len(raw) == count and raw[-1] < 128 and all(byte >= 128 for byte in raw[:-1]):
            found.append(_length(raw))
    return found


def _is_module(message: bytes) -> bool:
    try:
        raw = decode("Module", message)
        ids = {decode("Computation", computation).id for computation in raw.computations}
    except HloError:
        return False
    return bool(ids) and raw.entry_computation_id in ids
