"""What a tick of `costax.meter` costs a training loop: `python benchmarks/meter.py`.

First the tick alone, in a loop that does nothing else. Then a loop of small steps with and without it, in turns; the
loop without it stands twice in each turn, as a control. All is processor time.
"""

from __future__ import annotations

import time
from statistics import median

import jax
import jax.numpy as jnp

import costax

_TICKS = 20_000
_STEPS = 200
_ROUNDS = 15


def alone(meter: costax.Meter) -> float:
    """Return the processor seconds of a tick."""
    start = time.process_time()
    for _ in range(_TICKS):
        meter.tick(tokens=4096)
    return (time.process_time() - start) / _TICKS


def loop(step, x, w, meter: costax.Meter | None) -> float:
    """Return the processor seconds of a step of a loop that waits for each result."""
    start = time.process_time()
    for _ in range(_STEPS):
        x = jax.block_until_ready(step(x, w))
        if meter is not None:
            meter.tick(tokens=4096)
    return (time.process_time() - start) / _STEPS


def main() -> None:
    step = jax.jit(lambda x, w: jnp.tanh(x @ w))
    x, w = jnp.ones((512, 512)), jnp.ones((512, 512)) / 512
    meter = costax.meter(step, x, w, device="h100-sxm")
    ticks = [alone(meter) for _ in range(7)]
    loop(step, x, w, None)
    rounds = [[loop(step, x, w, each) for each in (None, meter, None)] for _ in range(_ROUNDS)]
    plain = median(first for first, *_ in rounds)
    print(f"jax {jax.__version__}")
    print(f"a tick alone: {median(ticks) * 1e6:.2f} us")
    print(f"a step without it: {plain * 1e6:.0f} us")
    for name, i in (("with it", 1), ("without it again", 2)):
        more = median(each[i] - each[0] for each in rounds)
        print(f"{name}: {more * 1e6:+.1f} us ({more / plain:+.2%}), median of {_ROUNDS}")


if __name__ == "__main__":
    main()
