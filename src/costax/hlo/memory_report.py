"""XLA's memory usage report: `*-memory-usage-report.txt` or `.pb` of a dump, without the buffer assignment beside it.

The report has the bytes of all allocations together. It does not say which hold arguments, results or constants; the
module does, so that what is left are the temporaries, with the buffers of threads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from costax.errors import HloError
from costax.hlo.errors import malformed
from costax.hlo.module_memory import TEMPORARIES, ModuleMemory
from costax.hlo.proto import decode

SOURCE: Final = "XLA's memory usage report"
# Each memory space has a part with a total. The XLA of jax 0.8 has one for all: "Total bytes used".
_TOTAL: Final = re.compile(r"^Total bytes(?: used)?: (\d{1,18}) ", re.MULTILINE)
_MOST_BYTES: Final = 2**28


def reported_memory(stem: Path, estimate: ModuleMemory) -> ModuleMemory | None:
    """Return the memory by the report of a module, whose files begin with `stem`; None where there is none.

    estimate: its other parts are those of the module. Raises HloError for a damaged report, or that of another module.
    """
    for path, total_of in _FILES.items():
        report = stem.with_name(f"{stem.name}-memory-usage-report{path}")
        try:
            contents = report.read_bytes() if report.is_file() and report.stat().st_size <= _MOST_BYTES else None
        except OSError:
            contents = None
        if contents is not None:
            return _memory(total_of(contents, str(report)), estimate, str(report))
    return None


def _memory(total: int, estimate: ModuleMemory, where: str) -> ModuleMemory:
    fixed = estimate.needed - estimate.temporaries
    if total < fixed:
        raise malformed(
            f"The memory usage report has {total:,} bytes, and the arguments, results and constants of the module need "
            f"{fixed:,}",
            where=where,
        )
    parts: Mapping[str, int] = {**estimate.parts, TEMPORARIES: total - fixed}
    return ModuleMemory(SOURCE, is_estimate=False, parts=parts, aliased=estimate.aliased)


def _of_text(contents: bytes, where: str) -> int:
    totals = _TOTAL.findall(contents.decode("utf-8", "replace"))
    if not totals:
        raise malformed("The memory usage report has no line `Total bytes`", where=where)
    return sum(map(int, totals))


def _of_proto(contents: bytes, where: str) -> int:
    try:
        spaces = [decode("MemorySpace", x) for x in decode("MemoryUsageReport", contents).spaces]
    except HloError as fault:
        fault.where = where
        raise
    if not spaces or any(space.total < 0 for space in spaces):
        raise malformed("The memory usage report has no memory space with a total", where=where)
    return sum(space.total for space in spaces)


_FILES: Final = {".txt": _of_text, ".pb": _of_proto}
