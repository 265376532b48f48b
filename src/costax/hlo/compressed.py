"""Compressed files: gz and xz are unpacked within bounds, since a small file can expand to more than the memory."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final

from costax.errors import HloError
from costax.hlo.errors import not_hlo

# The largest protobuf message. A module with its metadata shrinks to a tenth or a twentieth; what expands to more than
# 200 times its size, beyond 256 MiB, is made to fill the memory.
_MOST: Final = 2**31
_FREE: Final = 2**28
_RATIO: Final = 200
_XZ_MEMORY: Final = 2**28
_CHUNK: Final = 2**20

_GZIP: Final = b"\x1f\x8b"
_XZ: Final = b"\xfd7zXZ\x00"


def unpacked(contents: bytes, where: str) -> bytes:
    """Return the contents of a gz or xz file; other bytes as they are.

    where: the path, for errors. Raises HloError for a file that is damaged, ends early or expands too much.
    """
    if contents.startswith(_GZIP):
        return _expanded(contents, lambda: _Gzip(), "gzip", "gunzip", where)
    if contents.startswith(_XZ):
        return _expanded(
            contents, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY), "xz", "unxz", where
        )
    return contents


class _Gzip:
    """A decompressor of gzip with the interface of `lzma.LZMADecompressor`."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    def decompress(self, contents: bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail or contents, max_length)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data


def _expanded(contents: bytes, decompressor: Callable[[], Any], kind: str, tool: str, where: str) -> bytes:
    limit = min(_MOST, max(_FREE, _RATIO * len(contents)))
    parts: list[bytes] = []
    size = 0
    rest = contents
    try:
        # A file may hold several streams, one after the other.
        while rest:
            stream = decompressor()
            while not stream.eof:
                part: bytes = stream.decompress(rest, _CHUNK)
                rest = b""
                size += len(part)
                parts.append(part)
                if size > limit:
                    raise _too_large(kind, tool, limit, where)
                if not part and stream.needs_input and not stream.eof:
                    raise not_hlo(f"{kind}-compressed data that ends early", where=where, cure=_cure(tool, where))
            rest = stream.unused_data.lstrip(b"\0")
    except (lzma.LZMAError, zlib.error) as fault:
        raise not_hlo(
            f"{kind}-compressed data that does not unpack: {fault}", where=where, cure=_cure(tool, where)
        ) from fault
    return b"".join(parts)


def _too_large(kind: str, tool: str, limit: int, where: str) -> HloError:
    return HloError(
        f"The {kind}-compressed file expands to more than {limit // 2**20} MiB",
        where=where,
        why=f"costax unpacks at most 2 GiB, the limit of a serialised module, and beyond {_FREE // 2**20} MiB at most "
        f"{_RATIO} times the size of the file.",
        cure=f"If you trust the file, unpack it first: {tool} --keep {where}.",
    )


def _cure(tool: str, where: str) -> str:
    return f"Copy the file again; `{tool} --test {where}` checks it."
