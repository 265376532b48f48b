"""Speed and memory of counting: `nox -s bench`, or `python benchmarks/speed.py`.

Every ratio is the median over interleaved pairs in one process (A B A B ...), and every time is processor time, for
clocks drift on shared machines. jax's trace is timed with its caches cleared; the analysis is of a program that is
traced already.
"""

from __future__ import annotations

import argparse
import gc
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
from jax import lax

import costax
from costax.program.targets import load_target

try:
    from jax.extend.core import jaxprs_in_params
except ImportError:  # jax 0.8
    from jax.core import jaxprs_in_params

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def seconds(run: Callable[[], object]) -> float:
    """Processor seconds of a run, those of the processes that it starts included."""
    gc.collect()
    start = used()
    run()
    return used() - start


def used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def interleaved(a: Callable[[], object], b: Callable[[], object], pairs: int) -> tuple[float, float, float]:
    """Median seconds of a and of b, and the median of the pairs' ratios a / b."""
    found = [(seconds(a), seconds(b)) for _ in range(pairs)]
    return median(x for x, _ in found), median(y for _, y in found), median(x / y for x, y in found)


def equations(jaxpr) -> int:
    """Equations of a program, those of every distinct inner jaxpr once."""
    seen: set[int] = set()

    def count(inner) -> int:
        inner = getattr(inner, "jaxpr", inner)
        if id(inner) in seen:
            return 0
        seen.add(id(inner))
        return len(inner.eqns) + sum(count(sub) for eqn in inner.eqns for sub in jaxprs_in_params(eqn.params))

    return count(jaxpr)


def against_tracing(name: str, pairs: int) -> str:
    target = load_target(f"{EXAMPLES / name.split(':')[0]}:{name.split(':')[1]}")
    holder = {}

    def trace():
        jax.clear_caches()
        holder["traced"] = jax.jit(lambda *args: target.fn(*args)).trace(*target.args)

    def analyse():
        costax.analyze(holder["traced"])()

    trace()
    tracing, analysing, _ = interleaved(trace, analyse, pairs)
    n = equations(holder["traced"].jaxpr)
    return (
        f"| {name}, {n:,} equations | {tracing * 1e3:.0f} ms | {analysing * 1e3:.1f} ms "
        f"| {analysing / tracing:.1%} (bar 10 %) | {analysing / n * 1e6:.1f} us (bar 10 us) |"
    )


def scan_of(length: int):
    return jax.jit(lambda x: lax.scan(lambda c, _: (jnp.tanh(c @ c), None), x, None, length=length)[0])


def matmul_of(n: int):
    return jax.jit(lambda x: jnp.tanh(x @ x)), jax.ShapeDtypeStruct((n, n), jnp.float32)


def independence(pairs: int) -> list[str]:
    x = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    short, long = scan_of(10).trace(x), scan_of(10**12).trace(x)
    (f, small), (g, large) = matmul_of(8), matmul_of(10**6)
    tiny, huge = f.trace(small), g.trace(large)
    rows = []
    for label, a, b in (("scan of 10^12 / of 10 steps", long, short), ("10^6 / 8 wide matrices", huge, tiny)):

        def many(traced):
            return lambda: [costax.analyze(traced)() for _ in range(50)]

        rows.append(f"| {label} | {interleaved(many(a), many(b), pairs)[2]:.2f} (bar 1) |")
    return rows


def chain(length: int):
    def fn(x):
        for i in range(length // 5):
            with jax.named_scope(f"layer_{i % 100}"):
                x = jnp.sin(x * 2 + 1) @ x - x
        return x

    return jax.jit(fn).trace(jax.ShapeDtypeStruct((8, 8), jnp.float32))


def linear(pairs: int) -> str:
    small, large = chain(5_000), chain(50_000)
    ratio = interleaved(lambda: costax.analyze(large)(), lambda: costax.analyze(small)(), pairs)[2]
    return f"| 50,000 / 5,000 equations | {ratio:.1f} (bar 10, linear) |"


def large_program() -> str:
    traced = chain(200_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    elapsed = seconds(lambda: costax.analyze(traced)().by_scope())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (
        f"| 200,000 equations, analysis and table by scope | {elapsed:.2f} s (bar 2 s) "
        f"| {peak / 1024:.0f} MiB in all, {(peak - before) / 1024:.0f} MiB more than jax's trace (bar 1 GB) |"
    )


# getrusage would give the parent's peak where that is higher: Linux hands it on to the processes that it starts.
LARGEST = """
import re, time
from pathlib import Path
import costax
from costax.targets import load_target
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
target = load_target({target!r})
before, start = peak(), time.process_time()
costax.analyze(target)()
print(time.process_time() - start, before, peak())
"""


def largest_model() -> str:
    """Trace and analyse a training step of Llama-3.1-405B in a process of its own."""
    code = LARGEST.format(target=f"{EXAMPLES / 'llama.py'}:llama3_405b_train_step")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    elapsed, before, peak = map(float, done.stdout.split())
    return (
        f"| Llama-3.1-405B training step, jax's trace and analysis | {elapsed:.2f} s "
        f"| {peak:.0f} MiB in all (bar 2 GB), {peak - before:.0f} MiB more than the imports |"
    )


def import_time(pairs: int) -> str:
    def run(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    both, alone, _ = interleaved(
        run("import jax, costax.analysis.analyze, costax.report.text"), run("import jax"), pairs
    )
    return f"| `import jax, costax` (all of it) / `import jax` | {(both - alone) * 1e3:.0f} ms more (bar 100 ms) |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    pairs = parser.parse_args().pairs
    print(f"jax {jax.__version__}, Python {sys.version.split()[0]}, medians of {pairs} interleaved pairs\n")
    print("| program | jax's trace | costax's analysis | share | an equation |\n|---|---|---|---|---|")
    for name in ("resnet.py:resnet50_train_step", "gpt2.py:gpt2_train_step"):
        print(against_tracing(name, pairs))
    print("\n| what | ratio |\n|---|---|")
    for row in (*independence(pairs), linear(pairs), import_time(pairs)):
        print(row)
    print("\n| what | time | memory |\n|---|---|---|")
    print(large_program())
    print(largest_model())


if __name__ == "__main__":
    main()
