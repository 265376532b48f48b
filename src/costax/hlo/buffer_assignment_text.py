"""XLA's buffer assignment as text: `*-buffer-assignment.txt` of a dump, and `*-live-range.txt` beside it.

XLA writes both with `--xla_dump_to` as text. The live ranges stand at the end of the first file up to jaxlib 0.8, and
in a file of their own since then; they have the values that are alive at the peak.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from costax.core.listing import shown
from costax.hlo.buffer_assignment import SOURCE, Finder
from costax.hlo.errors import malformed
from costax.hlo.module_memory import (
    ARGUMENTS,
    CONSTANTS,
    KINDS,
    RESULTS,
    TEMPORARIES,
    THREAD_LOCAL,
    LiveBuffer,
    ModuleMemory,
)
from costax.hlo.records import Module

_ALLOCATION: Final = re.compile(r"^allocation (\d{1,18}): size (\d{1,18})(.*):$")
_VALUE: Final = re.compile(
    r"^ value: <\d+ (\S+?)((?:\{[\d,]*\})?)(?: \(phi\))? @\d+> \(size=(\d{1,18}),offset=(\d{1,18})\)"
)
_TOTAL: Final = re.compile(r"^Total bytes used: (\d{1,18}) ", re.MULTILINE)
_ALIVE: Final = re.compile(r"^    (\S+?)\{([\d,]*)\}: (\d{1,18}) bytes \(cumulative")
_MOST_BYTES: Final = 2**30


def beside(path: Path) -> ModuleFiles:
    """Return the files of the buffer assignment and of the live ranges that a dump has beside a module."""
    stem = stem_of(path)
    return ModuleFiles(*(stem.with_name(f"{stem.name}-{what}.txt") for what in ("buffer-assignment", "live-range")))


def stem_of(path: Path) -> Path:
    """Return the path of a module without its suffixes, with which the names of the other files of a dump begin."""
    name = path.name
    for suffix in (".xz", ".gz"):
        name = name.removesuffix(suffix)
    for suffix in (".hlo.pb", ".pb", ".txt", ".hlo"):
        if name.endswith(suffix):
            name = name.removesuffix(suffix)
            break
    return path.with_name(name)


class ModuleFiles:
    """The paths of the files that a dump may have beside a module."""

    def __init__(self, assignment: Path, live_range: Path) -> None:
        """Take the paths."""
        self.assignment = assignment
        self.live_range = live_range

    def memory(self, module: Module) -> ModuleMemory | None:
        """Return the memory of a module; None without a buffer assignment. Raises HloError for a damaged file."""
        text = _text(self.assignment)
        if text is None:
            return None
        return memory_of_text(text, _text(self.live_range) or text, module, str(self.assignment))


def memory_of_text(text: str, live_ranges: str, module: Module, where: str = "") -> ModuleMemory:
    """Return the memory of a module by the text of its buffer assignment and of its live ranges."""
    parts = dict.fromkeys(KINDS, 0)
    kind_of: dict[tuple[str, str], str] = {}
    largest: dict[str, list[tuple[int, str, str]]] = {kind: [] for kind in (ARGUMENTS, RESULTS, CONSTANTS)}
    allocations = aliased = 0
    kind = ""
    for line in text.splitlines():
        if found := _ALLOCATION.match(line):
            size, attributes = int(found[2]), found[3]
            kind = _kind(attributes)
            parts[kind] += size
            allocations += 1
            aliased += size if kind == ARGUMENTS and "maybe-live-out" in attributes else 0
            if kind in largest:
                largest[kind].append((size, "", ""))
        elif kind and (value := _VALUE.match(line)):
            path = value[2].strip("{}")
            kind_of[value[1], path] = kind
            if kind in largest and not largest[kind][-1][1]:
                largest[kind][-1] = (largest[kind][-1][0], value[1], path)
        elif line.startswith("Used values"):
            break
    if not allocations:
        raise malformed("The text of the buffer assignment has no allocation", where=where)
    total = _TOTAL.search(text)
    if total is not None and int(total[1]) != sum(parts.values()):
        raise malformed(
            f"The allocations of the buffer assignment add up to {sum(parts.values()):,} bytes, and it says {total[1]}",
            where=where,
        )
    finder = Finder(module)
    live = [
        (name, path, nbytes)
        for name, path, nbytes in _alive(live_ranges)
        if kind_of.get((name, path), TEMPORARIES) == TEMPORARIES
    ]
    temporaries = [finder.live(nbytes, TEMPORARIES, name, _indices(path)) for name, path, nbytes in live]
    others = [
        finder.live(size, kind, name, _indices(path)) for kind, found in largest.items() for size, name, path in found
    ]
    alive: list[LiveBuffer] = sorted([*others, *temporaries], key=lambda buffer: -buffer.nbytes)
    # XLA's live ranges are those of values, not of the buffers that share memory: their sum is not that of the heap.
    return ModuleMemory(
        SOURCE, False, parts, aliased, allocations, shown(alive), alive_source="XLA's live ranges of values"
    )


def _kind(attributes: str) -> str:
    if ", parameter " in attributes:
        return ARGUMENTS
    for sign, kind in (("thread-local", THREAD_LOCAL), ("constant", CONSTANTS), ("maybe-live-out", RESULTS)):
        if f", {sign}" in attributes:
            return kind
    return TEMPORARIES


def _alive(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield name, part and bytes of the values that are alive at the peak."""
    _, found, rest = text.partition("(peak):\n")
    for line in rest.splitlines() if found else ():
        match = _ALIVE.match(line)
        if match is None:
            break
        yield match[1], match[2], int(match[3])


def _indices(path: str) -> tuple[int, ...]:
    return tuple(int(part) for part in path.split(",") if part)


def _text(path: Path) -> str | None:
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        return path.read_text("utf-8", "replace")
    except OSError:
        return None
