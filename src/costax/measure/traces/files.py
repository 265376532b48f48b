"""Open traces: what a path holds, a file, a folder of jax.profiler, or a folder or archive of nsys-jax.

Nothing is unpacked to disk. Sizes are checked before memory is taken: a compressed file may hold a hundred times its
size, and a trace 2 GiB, the limit of a protobuf message.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from stat import S_ISDIR, S_ISREG
from typing import Any, Final, NamedTuple

from costax.errors import TraceError
from costax.measure.traces import chrome, nsys, seconds, xplane
from costax.measure.traces.records import ModuleName, Trace, damaged, numbered

_LARGEST: Final = 2**31 - 1
# Python objects of JSON take ten times the memory of its text. jax.profiler writes at most a million events, 0.3 GB.
_LARGEST_JSON: Final = 2**29
# Traces shrink to a tenth or a twentieth. Small files may hold zeros only.
_RATIO: Final = 100
_SMALL: Final = 2**26
_MOST_FILES: Final = 100_000
_DAMAGE: Final = (OSError, EOFError, zlib.error, lzma.LZMAError)
# What Python's reader of archives raises for damaged ones.
_ZIP_DAMAGE: Final = (
    *(*_DAMAGE, zipfile.BadZipFile, struct.error, NotImplementedError, RuntimeError),
    *(ValueError, LookupError, TypeError, OverflowError),
)
_XPLANE: Final = (".xplane.pb", ".xplane.pb.gz")
_CHROME: Final = (".trace.json", ".trace.json.gz")
_CURE: Final = (
    "Pass a file .xplane.pb, .trace.json.gz or .csv, the folder of jax.profiler.trace, or a zip or folder of nsys-jax."
)
# `module_0040.jit_step.sm_8.0_gpu_after_optimizations.hlo.pb.xz`, and what XProf writes beside a profile:
# `jit_step(40).hlo_proto.pb`.
_DUMPED: Final = re.compile(r"module_(\d+)\.(.+?)\.(?:[\w.\-]*?)after_optimizations(?:\.hlo)?\.pb(?:\.(?:xz|gz))?")
_PROTO: Final = re.compile(r"(.+)\.hlo_proto\.pb(?:\.gz)?")


def read_traces(paths: Sequence[str | Path]) -> Trace:
    """Return the trace of one or more paths; several are processes of one program.

    Raises TraceError for a path without a trace, and for a damaged or hostile file.
    """
    parts: list[Trace] = []
    for number, path in enumerate(paths):
        process = f"process {number}" if len(paths) > 1 else ""
        parts.append(_read(Path(path), process))
    return combined(parts)


def combined(parts: Sequence[Trace]) -> Trace:
    """Return one trace of several processes. Raises TraceError for tables of times beside traces with a clock."""
    if len({part.timed for part in parts}) > 1:
        raise TraceError(
            "A table of times cannot be combined with a trace that has a clock.",
            why="The table does not say what ran at the same time.",
            cure="Join them one at a time.",
        )
    if len(parts) == 1:
        return parts[0]
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    return Trace(
        ", ".join(dict.fromkeys(part.form for part in parts)),
        [event for part in parts for event in part.events],
        [run for part in parts for run in part.module_runs],
        {name: hlo for part in reversed(parts) for name, hlo in part.modules.items()},
        sum(part.processes for part in parts),
        all(part.timed for part in parts),
        {name: spread for part in parts for name, spread in part.spreads.items()},
        tuple(notes),
    )


class _Entry(NamedTuple):
    """A file in a folder or archive: its path in it, and how to read it within a limit."""

    path: str
    size: int
    open: Any


def _read(path: Path, process: str) -> Trace:
    try:
        status = path.stat()
    except (OSError, ValueError) as fault:
        raise TraceError(
            f"{path.name} cannot be read: {getattr(fault, 'strerror', None) or fault}.",
            where=str(path),
            why="The measured times stand in the trace.",
            cure="Check the path.",
        ) from fault
    if S_ISDIR(status.st_mode):
        return _read_folder(list(_folder(path)), str(path), process)
    if not S_ISREG(status.st_mode):
        # A device or a pipe may never end.
        raise damaged(f"{path.name} is neither a file nor a folder", str(path), _CURE)
    if status.st_size > _LARGEST:
        raise damaged(f"{path.name} is larger than 2 GiB", str(path), "Profile fewer steps.")
    try:
        contents = path.read_bytes()
    except OSError as fault:
        raise damaged(f"{path.name} cannot be read: {fault.strerror or fault}", str(path), _CURE) from fault
    return read_contents(contents, str(path), process)


def read_contents(contents: bytes, where: str, process: str = "") -> Trace:
    """Return the trace in the contents of a file, whose first bytes say what it is.

    where: the file, for messages. process: a name for its process. Raises TraceError for anything but a trace.
    """
    if contents.startswith(b"PK\x03\x04"):
        return _read_folder(list(_archive(contents, where)), where, process)
    return _read_file(contents, where, process)


def _read_file(contents: bytes, where: str, process: str) -> Trace:
    """Return the trace in the contents of one file, which is no archive."""
    contents = decompressed(contents, where)
    if not contents:
        raise damaged("The file is empty", where, _CURE)
    start = contents[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] in (b"{", b"["):
        if len(contents) > _LARGEST_JSON:
            raise damaged("The JSON is larger than 512 MiB", where, "Pass the xplane.pb file of the same profile.")
        return chrome.read(contents, where, process)
    if start.startswith(b"PAR1"):
        return nsys.read(contents, where, process)
    if not contents[:4096].translate(None, bytes(range(32, 256)) + b"\t\n\r\f"):
        return seconds.read(contents, where)
    return xplane.read(contents, where, process)


def _read_folder(entries: list[_Entry], where: str, process: str) -> Trace:
    """Return the trace in a folder or archive: of nsys-jax, or the newest profile of jax.profiler."""
    tables = [entry for entry in entries if nsys.TRACE.fullmatch(entry.path)]
    if tables:
        parts = [
            nsys.read(_contents(entry, where), f"{where}, {entry.path}", _named(process, number, len(tables)))
            for number, entry in enumerate(tables)
        ]
        return _with_modules(combined(parts), entries, where)
    notes: tuple[str, ...] = ()
    for suffixes in (_XPLANE, _CHROME):
        chosen = [entry for entry in entries if entry.path.lower().endswith(suffixes)]
        if not chosen:
            continue
        # jax.profiler makes a folder for each profile, named by its time, with one file for each host.
        sessions = sorted({str(PurePosixPath(entry.path).parent) for entry in chosen})
        if len(sessions) > 1:
            notes = (f"The folder has {len(sessions)} profiles; the newest is taken: {sessions[-1]}.",)
        own = [entry for entry in chosen if str(PurePosixPath(entry.path).parent) == sessions[-1]]
        parts = [
            _read_file(_contents(entry, where), f"{where}, {entry.path}", _named(process, number, len(own)))
            for number, entry in enumerate(own)
        ]
        beside = [entry for entry in entries if str(PurePosixPath(entry.path).parent) == sessions[-1]]
        trace = _with_modules(combined(parts), beside, where)
        return replace(trace, notes=(*trace.notes, *notes))
    raise damaged("There is no trace in it", where, _CURE)


def _named(process: str, number: int, count: int) -> str:
    return f"{process} rank {number}".strip() if count > 1 else process


def _with_modules(trace: Trace, entries: Sequence[_Entry], where: str) -> Trace:
    """Return a trace with the modules that lie beside it; those that the trace embeds have precedence."""
    modules: dict[ModuleName, bytes] = {}
    for entry in entries:
        name = _module_name(PurePosixPath(entry.path).name)
        if name is not None and name not in trace.modules:
            modules[name] = decompressed(_contents(entry, where), f"{where}, {entry.path}")
    return replace(trace, modules={**modules, **trace.modules}) if modules else trace


def _module_name(file: str) -> ModuleName | None:
    """Return the module of a file.

    >>> _module_name("module_0040.jit_step.sm_8.0_gpu_after_optimizations.hlo.pb.xz")
    ModuleName(name='jit_step', program='40')
    """
    if match := _DUMPED.fullmatch(file):
        return ModuleName(match[2], str(int(match[1])))
    match = _PROTO.fullmatch(file)
    return numbered(match[1]) if match else None


def _contents(entry: _Entry, where: str) -> bytes:
    try:
        return entry.open()
    except TraceError:
        raise
    except _ZIP_DAMAGE as fault:
        raise damaged(f"{entry.path} cannot be read: {fault}", where) from fault


def _folder(folder: Path) -> Iterator[_Entry]:
    """Yield the files of a folder. Links are not followed, so that none leads outside."""
    for number, path in enumerate(sorted(folder.rglob("*"))):
        if number > _MOST_FILES:
            raise damaged(f"The folder has more than {_MOST_FILES:,} files", str(folder), _CURE)
        if path.is_symlink() or not path.is_file():
            continue
        size = path.stat().st_size
        if size <= _LARGEST:
            yield _Entry(path.relative_to(folder).as_posix(), size, path.read_bytes)


def _archive(contents: bytes, where: str) -> Iterator[_Entry]:
    """Yield the files of a zip. Raises TraceError for a path outside of it, and for more than a trace holds."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(contents))
        listed = archive.infolist()
    except _ZIP_DAMAGE as fault:
        raise damaged(f"The file is not a zip, or it is cut off: {fault}", where) from fault
    if len(listed) > _MOST_FILES:
        raise damaged(f"The zip has more than {_MOST_FILES:,} files", where, _CURE)
    # One budget for all files that are read: a thousand small bombs are as bad as a large one.
    budget = [_limit(len(contents))]
    for info in listed:
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in info.filename[:2]:
            raise damaged(f"The zip holds a path that leads outside of it: {info.filename[:100]!r}", where)
        if not info.filename or info.is_dir():
            continue

        def opened(info: zipfile.ZipInfo = info) -> bytes:
            limit, place = min(budget[0], _limit(info.compress_size)), f"{where}, {info.filename}"
            if info.file_size > limit:
                raise _bomb(info.file_size, limit, place)
            with archive.open(info) as file:
                unpacked = _bounded(file, limit, place)
            budget[0] -= len(unpacked)
            return unpacked

        yield _Entry(path.as_posix(), info.file_size, opened)


def _limit(compressed: int) -> int:
    return min(_LARGEST, max(_SMALL, _RATIO * compressed))


def _bomb(size: int, limit: int, where: str) -> TraceError:
    return damaged(
        f"The data unpacks to more than {limit:,} bytes{f': {size:,}' if size else ''}",
        where,
        "Traces shrink to a tenth or a twentieth; costax unpacks at most a hundred times the size. Unpack it first.",
    )


def _bounded(file: Any, limit: int, where: str) -> bytes:
    """Return what a compressed file holds. Raises TraceError if it holds more than the limit."""
    contents = file.read(limit + 1)
    if len(contents) > limit:
        raise _bomb(0, limit, where)
    return contents


_COMPRESSIONS: Final = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ": lzma.open, b"BZh": bz2.open}


def decompressed(contents: bytes, where: str) -> bytes:
    """Return contents without gzip, xz or bzip2. Raises TraceError for damaged data, and for more than the limit."""
    for magic, opener in _COMPRESSIONS.items():
        if contents.startswith(magic):
            try:
                with opener(io.BytesIO(contents)) as file:
                    return _bounded(file, _limit(len(contents)), where)
            except (*_DAMAGE, ValueError) as fault:
                if isinstance(fault, TraceError):
                    raise
                raise damaged(f"The compressed data is damaged or cut off: {fault}", where) from fault
    return contents
