"""What `costax.compare` costs beside XLA itself: `nox -s bench`, or `python benchmarks/comparison.py`.

Four runs alternate in one process (A W N C A W N C ...), each with jax's caches cleared and in processor time:
A is `jax.jit(fn).lower(*args).compile()`, W is A where XLA writes the module after every pass, N is
`costax.compare(fn, passes=False)(*args)`, C is `costax.compare(fn)(*args)`. The shares are the medians of (W - A) / A,
(N - A) / A and (C - A) / A.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from statistics import median

import jax
import jax.numpy as jnp
from flax import nnx
from speed import EXAMPLES, interleaved, seconds

import costax
from costax import _jax
from costax.compare import dumping, marks
from costax.hlo import read_bytes, replay_module
from costax.program.targets import load_target

COMPUTATIONS = 1500


def example(name: str) -> tuple[Callable, tuple]:
    file, _, attribute = name.partition(":")
    target = load_target(f"{EXAMPLES / file}:{attribute}")
    if not isinstance(target.fn, nnx.Module):
        return target.fn, target.args
    graph, state = nnx.split(target.fn)
    return lambda state, *args: nnx.merge(graph, state)(*args), (state, *target.args)


def fresh(fn: Callable) -> Callable:
    """The same function to jax's caches of nothing, as a user's first call finds them."""
    jax.clear_caches()
    return lambda *args: fn(*args)


def overhead(name: str, rounds: int) -> str:
    fn, args = example(name)

    def compiled():
        jax.jit(fresh(fn)).lower(*args).compile()

    def written():
        with dumping.dump_folder() as folder:
            options = {"xla_dump_to": folder, **dumping.OPTIONS, "xla_dump_hlo_as_proto": True}
            jax.jit(fresh(fn)).lower(*args).compile(compiler_options=options)

    def without_passes():
        costax.compare(fresh(fn), passes=False)(*args)

    def compared():
        costax.compare(fresh(fn))(*args)

    runs = (compiled, written, without_passes, compared)
    for run in runs:
        run()  # Imports, and what XLA makes once a process.
    found = [[seconds(run) for run in runs] for _ in range(rounds)]
    times = " | ".join(f"{median(column):.2f} s" for column in zip(*found, strict=True))
    write, without, whole = (median((row[i] - row[0]) / row[0] for row in found) for i in (1, 2, 3))
    return f"| {name} | {times} | {write:.0%} | {without:.0%} (bar 10 %) | {whole:.0%} (bar 60 %) |"


def shared(calls: int = 200, functions: int = 20):
    """A program of many calls of few jitted functions, two deep."""
    inner = [jax.jit(lambda x, k=k: jnp.tanh(x * k) + 1) for k in range(functions)]
    outer = [jax.jit(lambda x, f=f: f(f(x)) * 2) for f in inner]

    def fn(x):
        for call in range(calls):
            x = outer[call % functions](x)
        return x.sum()

    return jax.grad(fn), (jax.ShapeDtypeStruct((8, 8), jnp.float32),)


def marking(name: str, program: tuple[Callable, tuple], pairs: int) -> str:
    fn, args = program
    analysis = costax.analyze(fresh(fn))(*args)
    traced, live = analysis.program.traced, analysis.live

    def plain():
        jax.clear_caches()
        return _jax.lower(traced, live)

    def marked():
        jax.clear_caches()
        return _jax.lower(traced, marks.mark(live).jaxpr)

    functions = [len(re.findall("func.func", _jax.stablehlo_text(lower()))) for lower in (plain, marked)]
    b, a, ratio = interleaved(marked, plain, pairs)
    return f"| {name} | {a * 1e3:.0f} ms | {b * 1e3:.0f} ms | {ratio:.2f} (bar 1.5) | {functions[0]}, {functions[1]} |"


def module(computations: int) -> bytes:
    """The lowered gradient of a chain of jitted layers, each of which becomes computations of its own."""

    def layers(x):
        for _ in range(computations // 8):
            x = jax.jit(lambda y: jnp.tanh(jnp.where(y > 0, y, 0).sum() * y) + jax.nn.softmax(y))(x)
        return x.sum()

    return _jax.hlo_of(jax.jit(jax.grad(layers)).lower(jax.ShapeDtypeStruct((10,), jnp.float32)))


def replaying(rounds: int) -> str:
    hlo = module(COMPUTATIONS)
    read = read_bytes(hlo)
    if not replay_module(read).matches(_jax.xla_cost(hlo)):
        raise SystemExit("The replay is not XLA's own number.")
    runs = (lambda: read_bytes(hlo), lambda: replay_module(read), lambda: _jax.xla_cost(hlo))
    reading, replayed, theirs = (median(seconds(run) for _ in range(rounds)) for run in runs)
    instructions = sum(len(computation.instructions) for computation in read.computations.values())
    return (
        f"| {len(read.computations):,} computations, {instructions:,} instructions | {reading:.3f} s "
        f"| {replayed:.3f} s (bar 0.3 s) | {theirs:.3f} s |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    pairs = parser.parse_args().pairs
    print(f"jax {jax.__version__}, Python {sys.version.split()[0]}, medians of {pairs} interleaved rounds\n")
    print(
        "| program | A: lower, compile | W: and write | N: compare, passes=False | C: compare "
        "| (W - A) / A | (N - A) / A | (C - A) / A |"
    )
    print("|---|---|---|---|---|---|---|---|")
    steps = ("gpt2.py:gpt2_train_step", "resnet.py:resnet50_train_step")
    for name in (*steps, "vit.py:vit_b_16", "lstm.py:lstm_train_step", "mlp_train.py:mlp_train_step"):
        print(overhead(name, pairs), flush=True)
    print("\n| program | lowered | marked and lowered | ratio | functions in the StableHLO |\n|---|---|---|---|---|")
    for name in steps:
        print(marking(name, example(name), pairs), flush=True)
    print(marking("200 calls of 20 shared functions, gradient", shared(), pairs))
    print("\n| module | read | replayed | XLA's own analysis |\n|---|---|---|---|")
    print(replaying(pairs))


if __name__ == "__main__":
    main()
