"""Write docs/corpus.md, every program of the corpus in four accounts: `nox -s corpus`.

FLOPs of one device; the programs, the numbers and their tests are those of tests/compare/test_attribution.py.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# The corpus

Every program of `tests/helpers/corpus`, reconciled: what its jaxpr asks for, what XLA's law gives for the lowered and
for the compiled module, what XLA says, and how many named differences lead from the first to the last. All numbers are
FLOPs; the last column is the time of `costax.compare`, XLA's own lowering and compiling included.

Differences without a name: {unexplained}. Replays that are not XLA's own number: {mismatches}.

Made by `nox -s corpus` with jax {jax} on the CPU of one machine; the tests hold the programs and the numbers, not the
seconds.

| program | jaxpr | lowered | compiled | XLA | differences | s |
|---|---:|---:|---:|---:|---:|---:|
"""


class Line:
    """One program: its name and the cells of its line, seconds apart."""

    def __init__(self, name: str, cells: tuple[str, ...], seconds: float, unexplained: int, matches: bool) -> None:
        """Take what the table shows."""
        self.name = name
        self.cells = cells
        self.seconds = seconds
        self.unexplained = unexplained
        self.matches = matches

    def __str__(self) -> str:
        """Return the line as Markdown."""
        return f"| {' | '.join((self.name, *self.cells, f'{self.seconds:.2f}'))} |"


def line(program) -> Line:
    """Compare one program of the corpus."""
    import costax
    from corpus import made

    fn, args = made(program)
    start = time.perf_counter()
    found = costax.compare(fn)(*args)
    seconds = time.perf_counter() - start
    counts = (found.jaxpr.total.flops, found.lowered.total.flops, found.compiled.total.flops, int(found.xla["flops"]))
    cells = (*(f"{count:,}" for count in counts), str(len(found.deltas)))
    return Line(program.name, cells, seconds, len(found.unexplained), found.matches_xla)


def lines(names: tuple[str, ...] = ()) -> Iterator[Line]:
    """Yield a line for each program, or for those that are named."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    from corpus import programs

    for program in programs():
        if not names or program.name in names:
            yield line(program)


def main() -> None:
    """Write the page."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    import jax

    found = list(lines())
    gaps = [f"{each.unexplained} in {each.name}" for each in found if each.unexplained]
    unexplained = ", ".join((str(sum(each.unexplained for each in found)), *gaps))
    mismatches = sum(not each.matches for each in found)
    text = HEAD.format(jax=jax.__version__, unexplained=unexplained, mismatches=mismatches)
    total = sum(each.seconds for each in found)
    text += "\n".join(map(str, found)) + f"\n\n{len(found)} programs, {total:.0f} s.\n"
    (ROOT / "docs" / "corpus.md").write_text(text)


if __name__ == "__main__":
    main()
