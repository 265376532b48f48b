"""Many analyses and comparisons in one process: its memory stays flat, and eight threads count what one counts.

`nox -s soak`, or `python tests/soak/soak.py --analyses 10000 --comparisons 200`. Every part runs in a process of its
own. The programs differ in every round, so no cache of jax or costax can answer; jax's own caches are emptied before
each reading of the memory. XLA keeps memory of its own for every program that it compiles: a control compiles the same
programs without costax, and its growth is subtracted. Linux only: the memory is read from /proc.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import costax
from costax.report.record import to_record

# The share of the rounds that fills what is filled once: modules, rules, caches of a fixed size, pools of memory.
WARM_UP = 0.2
MIB = 2**20
LIMIT = 10 * MIB
# Readings of the memory after the warm-up.
READINGS = 8


def program(n: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return the n-th program: a new function with a scan, a branch, a gradient and scopes; sizes differ."""
    width, length = 8 + n % 7, 2 + n % 5

    def layer(x: Any, weight: Any) -> tuple[Any, None]:
        with jax.named_scope(f"layer{n}"):
            return jnp.tanh(x @ weight) + n, None

    def loss(weights: Any, x: Any) -> Any:
        y, _ = jax.lax.scan(layer, x, weights)
        y = jax.lax.cond(y.sum() > n, jnp.sin, lambda z: z * 2, y)
        return (y**2).mean()

    shapes = jax.ShapeDtypeStruct((length, width, width), "float32"), jax.ShapeDtypeStruct((4, width), "float32")
    return (jax.grad(loss), shapes) if n % 2 else (loss, shapes)


def analysed(n: int) -> Any:
    fn, shapes = program(n)
    found = costax.analyze(fn)(*shapes)
    if n % 10 == 0:
        str(found)
        costax.predict(found, "h100-sxm")
    return found


def compared(n: int) -> None:
    fn, shapes = program(n)
    str(costax.compare(fn)(*shapes))


def traced(n: int) -> None:
    fn, shapes = program(n)
    jax.jit(fn).trace(*shapes)


def compiled(n: int) -> None:
    fn, shapes = program(n)
    jax.jit(fn).lower(*shapes).compile()


PARTS: dict[str, Callable[[int], Any]] = {
    "analyses": analysed,
    "traces": traced,
    "comparisons": compared,
    "compiles": compiled,
}


def resident() -> int:
    """Return the resident bytes of this process, without what can be given back: caches of jax, garbage, free pages."""
    jax.clear_caches()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


def run(part: str, rounds: int) -> None:
    """Run a part and print the bytes after the warm-up and at every reading after it."""
    work, readings, start = PARTS[part], list[int](), time.process_time()
    warm = max(1, int(rounds * WARM_UP))
    step = max(1, (rounds - warm) // READINGS)
    for n in range(rounds):
        work(n)
        if n >= warm - 1 and (n - warm + 1) % step == 0:
            readings.append(resident())
        elif n % 50 == 49:
            jax.clear_caches()
    print(json.dumps({"readings": readings, "seconds": time.process_time() - start}))


def counted(n: int) -> str:
    fn, shapes = program(n)
    record = to_record(costax.analyze(fn)(*shapes))
    return json.dumps(record, sort_keys=True, default=str)


def threads(rounds: int) -> None:
    """Analyse the same programs in one thread and in eight at once; the records are equal."""
    alone = [counted(n) for n in range(rounds)]
    jax.clear_caches()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(counted, [n for n in range(rounds) for _ in range(2)]))
    differing = sum(alone[i // 2] != record for i, record in enumerate(together))
    print(json.dumps({"differing": differing, "of": len(together)}))


def child(part: str, rounds: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--part", part, "--rounds", str(rounds)], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def growth(readings: list[int]) -> float:
    """Return the growth after the warm-up: between the means of the first and of the last two readings."""
    return (sum(readings[-2:]) - sum(readings[:2])) / 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--analyses", type=int, default=10_000)
    parser.add_argument("--comparisons", type=int, default=200)
    parser.add_argument("--part")
    parser.add_argument("--rounds", type=int, default=1)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    if chosen.part == "threads":
        threads(chosen.rounds)
        return 0
    if chosen.part:
        run(chosen.part, chosen.rounds)
        return 0
    failed = 0
    counts = {"analyses": chosen.analyses, "comparisons": chosen.comparisons}
    for part, control in (("analyses", "traces"), ("comparisons", "compiles")):
        grown = {}
        for name in (part, control):
            answer = child(name, counts[part])
            grown[name] = growth(answer["readings"])
            mebibytes = " ".join(f"{reading / MIB:.0f}" for reading in answer["readings"])
            print(
                f"{counts[part]} {name}: {grown[name] / MIB:+.1f} MiB after the warm-up ({mebibytes} MiB), "
                f"{answer['seconds']:.0f} s of processor time",
                flush=True,
            )
        # A control whose memory shrinks gives no allowance, and takes none.
        own = grown[part] - max(0.0, grown[control])
        failed += own > LIMIT
        print(f"costax itself: {own / MIB:+.1f} MiB; the limit is {LIMIT / MIB:.0f} MiB", flush=True)
    answer = child("threads", min(200, chosen.analyses))
    failed += answer["differing"] > 0
    print(f"8 threads: {answer['differing']} of {answer['of']} records differ from those of one thread")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
