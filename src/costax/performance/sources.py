"""Sentences that say which efficiency of a prediction came from where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from costax.performance.efficiency.tables import source_of_tables
from costax.performance.roofline import KernelTime


def efficiencies(parts: Sequence[KernelTime], spread: tuple[float, float]) -> list[str]:
    """Return the origin of the efficiencies, for a device with a table of peaks.

    spread: published over expected seconds of whole programs, of which nine in ten are above and below.
    """
    counts = Counter(source for part in parts for source in part.timing.sources)
    sentences = [f"The time of {count} of {len(parts)} kernels is from {name}." for name, count in counts.items()]
    if any("table" in name for name in counts):
        sentences.append(f"The tables: {source_of_tables()}.")
    if any(part.kernel.contractions and not part.timing.sources for part in parts):
        start = "1.8 us on a TPU, and 4 us elsewhere"
        sentences.append(
            f"Other products reach the measured share of the peak, or 80 % if none was measured, and start in {start}."
        )
    sentences.append(
        "Elementwise kernels reach 90 % of the memory's bandwidth, reductions on a GPU 68 %; each adds a launch and a "
        "start of 1 us."
    )
    low, high = spread
    if spread != (1.0, 1.0):
        sentences.append(
            f"Nine in ten published runs took more than {low:.2f} times the expected time, and nine in ten less than "
            f"{high:.2f} times: best and worst are at least as far apart."
        )
    return sentences
