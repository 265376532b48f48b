"""Speed of formulas and sweeps: `nox -s bench_symbols`, or `python benchmarks/symbols.py`.

Analyses with symbols against concrete ones, tracing included: medians over interleaved pairs of processor time, jax's
caches cleared. Then formulas at many points, and how busy a sweep keeps two processes.
"""

from __future__ import annotations

import statistics
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np

import costax

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests" / "helpers"), str(ROOT / "benchmarks")]
PAIRS = 5


def programs() -> dict[str, tuple]:
    """Targets with symbols, and the point at which they are analysed with numbers."""
    import symbolic_examples as symbols

    chosen = {
        "gpt2_small": {},
        "gpt2_train_step": {},
        "llama2_7b": {},
        "resnet18": {},
        "resnet50_train_step": {},
        "vit_b_16": {},
    }
    found = {}
    for module, name, specs, ranges in symbols.EXAMPLES:
        if name in chosen:
            target = symbols.symbolic(module, name, specs)
            point = {symbol: min(high, low + 62) for symbol, (low, high) in ranges.items()}
            found[name] = target, point
    return found


def seconds(run) -> float:
    jax.clear_caches()
    started = time.process_time()
    run()
    return time.process_time() - started


def analyses() -> None:
    import symbolic_examples as symbols

    print(f"{'program':22} {'concrete':>9} {'symbolic':>9} {'ratio':>6}")
    for name, (target, point) in programs().items():
        concretely, symbolically = partial(symbols.at, target, point), costax.analyze(target)
        pairs = [(seconds(concretely), seconds(symbolically)) for _ in range(PAIRS)]
        ratio = statistics.median(b / a for a, b in pairs)
        concrete, symbolic = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name:22} {concrete:8.2f}s {symbolic:8.2f}s {ratio:6.2f}")


def points() -> None:
    target, _ = programs()["gpt2_train_step"]
    analysis = costax.analyze(target)()
    b, s = np.arange(2, 10_002), np.arange(10_001, 1, -1)
    for label, options in (("doubles", {}), ("exact integers", {"exact": True})):
        started = time.perf_counter()
        analysis.evaluate_many(b=b, s=s, **options)
        print(f"all fields at 10,000 points, {label}: {1000 * (time.perf_counter() - started):.0f} ms")


def sweeps() -> None:
    import studies_speed

    grid = {"layers": range(1, 13), "width": range(64, 129, 2)}
    for workers in (1, 2):
        started = time.perf_counter()
        found = costax.sweep(studies_speed.make, grid, workers=workers, progress=False)
        wall = time.perf_counter() - started
        busy = sum(row["seconds"] for row in found)
        print(f"{len(found)} points, {workers} processes: {wall:.1f} s, busy {busy / wall / workers:.0%}")


if __name__ == "__main__":
    analyses()
    points()
    sweeps()
