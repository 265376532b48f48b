"""How long a module of many computations takes to read and to replay, next to XLA's own analysis of it.

Run: `python benchmarks/hlo_replay.py [computations]`. The bar is 0.3 s of replay for 1,500 computations.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise

import jax
import jax.numpy as jnp

from costax import _jax
from costax.hlo import read_bytes, replay


def module(computations: int) -> bytes:
    """Return the lowered gradient of a chain of jitted layers, each of which becomes computations of its own."""

    def layers(x):
        for _ in range(computations // 8):
            x = jax.jit(lambda y: jnp.tanh(jnp.where(y > 0, y, 0).sum() * y) + jax.nn.softmax(y))(x)
        return x.sum()

    return _jax.hlo_of(jax.jit(jax.grad(layers)).lower(jax.ShapeDtypeStruct((10,), jnp.float32)))


def main() -> None:
    data = module(int(sys.argv[1]) if len(sys.argv) > 1 else 1500)
    for _ in range(3):
        times = [time.perf_counter()]
        read = read_bytes(data)
        times.append(time.perf_counter())
        mine = replay(read)
        times.append(time.perf_counter())
        xla = _jax.xla_cost(data)
        times.append(time.perf_counter())
        reading, replaying, theirs = (b - a for a, b in pairwise(times))
        instructions = sum(len(c.instructions) for c in read.computations.values())
        print(
            f"{len(read.computations)} computations, {instructions} instructions: read {reading:.3f} s, "
            f"replay {replaying:.3f} s, XLA {theirs:.3f} s, same: {mine.matches(xla)}"
        )


if __name__ == "__main__":
    main()
