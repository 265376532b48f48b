"""Regenerate docs/corpus.md, the FLOPs of every program of the corpus at each step of the chain: `nox -s corpus`.

The FLOPs are those of one device. tests/compare/test_attribution.py tests the same programs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# The corpus

Every program of `tests/helpers/corpus` with its FLOPs at each step of [the chain](ledgers.md): the jaxpr, the same by
XLA's rules, StableHLO as jax emitted it, HLO as XLA converted it, the compiled module, and the number that XLA reports.
Between HLO and the compiled module are the passes: the next column is how many runs of a pass changed FLOPs or
transcendentals. Then the share of the operations that belong to an equation, in the worst of the modules after a pass,
and the time of `costax.compare`, including XLA's own lowering and compilation.

Unexplained differences: {unexplained}. Replays that are not XLA's own number: {mismatches}.

`nox -s corpus` made this table with jax {jax} on the CPU of one machine. The tests check the programs and the counts,
but not the seconds.

| program | jaxpr | XLA's rules | StableHLO | HLO | compiled | XLA | passes | attributed | s |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""


class Line:
    """One program: its name, the cells of its line, and the seconds."""

    def __init__(self, name: str, cells: tuple[str, ...], seconds: float, unexplained: int, matches: bool) -> None:
        """Create a line from the values that the table shows."""
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
    counts = [found.jaxpr.total.flops]
    for stage in ("jaxpr", "lowered", "converted", "compiled", "xla"):
        counts.append(counts[-1] + sum(delta.flops for delta in found.deltas if delta.stage == stage))
    assert counts[-1] == found.xla["flops"]
    runs = {delta.run for delta in found.deltas if delta.pass_name}
    shares = [found.lowered.attributed, found.compiled.attributed, *(step.attributed for step in found.passes.steps)]
    cells = (*(f"{count:,}" for count in counts), str(len(runs)), f"{min(shares):.2%}")
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
