"""Published training runs against the range that costax gives for their hours and energy.

    python benchmarks/training_runs.py

Each run is a training step of AdamW in JAX of the model's sizes (`examples/llama.py`; the two matrices of a GELU layer
are three of two thirds of the width), 16 sequences a call and device, repeated until the published tokens are through.
The utilisation of these runs is not among those that the range is read from (`costax.performance.real_runs`).
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import costax

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import llama

SEQUENCES = 16


class Published(NamedTuple):
    """A training run. hours: of one device. kwh: None where the publication gives none.

    sizes: layers, width, heads, kv heads, hidden width of a gated layer, vocabulary.
    """

    name: str
    device: str
    devices: int
    sizes: tuple[int, int, int, int, int, int]
    context: int
    tokens: float
    hours: float
    kwh: float | None
    source: str


_LLAMA = "Touvron et al., LLaMA, arXiv 2302.13971, table 15"
_LLAMA2 = "Touvron et al., Llama 2, arXiv 2307.09288, table 2"
_LLAMA3 = "Llama 3.1 model card, 2024"
# Meta's energies are hours x the power limit of the GPU (x 1.1 for LLaMA); BLOOM's are hours x 400 W, without the idle
# nodes (257 MWh more). For Llama 2 and 3.1 the power limit is published, and the energy is its product with the hours.
A100, H100 = "a100-sxm-80", "h100-sxm"
RUNS = (
    Published(
        *("BLOOM 176B", A100, 384, (70, 14336, 112, 112, 38229, 250880), 2048, 366e9, 1_082_990, 433_196),
        "Luccioni et al., arXiv 2211.02001",
    ),
    Published("OPT 175B", A100, 992, (96, 12288, 96, 96, 32768, 50272), 2048, 300e9, 809_472, 356_000, _LLAMA),
    Published("LLaMA 7B", A100, 2048, (32, 4096, 32, 32, 11008, 32000), 2048, 1.0e12, 82_432, 36_000, _LLAMA),
    Published("LLaMA 13B", A100, 2048, (40, 5120, 40, 40, 13824, 32000), 2048, 1.0e12, 135_168, 59_000, _LLAMA),
    Published("LLaMA 65B", A100, 2048, (80, 8192, 64, 64, 22016, 32000), 2048, 1.4e12, 1_022_362, 449_000, _LLAMA),
    Published("Llama 2 7B", A100, 1024, (32, 4096, 32, 32, 11008, 32000), 4096, 2e12, 184_320, 73_728, _LLAMA2),
    Published("Llama 2 13B", A100, 1024, (40, 5120, 40, 40, 13824, 32000), 4096, 2e12, 368_640, 147_456, _LLAMA2),
    Published("Llama 2 70B", A100, 2048, (80, 8192, 64, 8, 28672, 32000), 4096, 2e12, 1_720_320, 688_128, _LLAMA2),
    Published("Llama 3.1 8B", H100, 4096, (32, 4096, 32, 8, 14336, 128256), 8192, 15e12, 1_460_000, 1_022_000, _LLAMA3),
    Published("Llama 3.1 70B", H100, 8192, (80, 8192, 64, 8, 28672, 128256), 8192, 15e12, 7e6, 4_900_000, _LLAMA3),
    Published(
        "Llama 3.1 405B", H100, 16384, (126, 16384, 128, 8, 53248, 128256), 8192, 15.6e12, *(30.84e6, 21.588e6, _LLAMA3)
    ),
)


def target(run: Published) -> costax.Target:
    """Return one step of AdamW for the sequences of one device."""
    model = llama.Config(*run.sizes, rope_base=1e4, scan=True)
    optimizer = optax.adamw(3e-4)

    def loss_fn(params, tokens):
        logits = llama.forward(params, tokens[:, :-1], model).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    def step(params, state, tokens):
        loss, grads = jax.value_and_grad(loss_fn)(params, tokens)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    params = jax.eval_shape(partial(llama.init, c=model), costax.spec("key<fry>[]"))
    tokens = costax.spec(f"i32[{SEQUENCES},{run.context + 1}]")
    return costax.Target(step, (params, jax.eval_shape(optimizer.init, params), tokens), params_argnums=0)


class Row(NamedTuple):
    """A published run with the ranges of costax."""

    run: Published
    hours: costax.performance.energy.Range
    kwh: costax.performance.energy.Range


def row(run: Published) -> Row:
    """Return what costax gives for a published run."""
    prediction = costax.predict(costax.analyze(target(run))(), run.device)
    calls = run.tokens / (SEQUENCES * run.context * run.devices)
    found = prediction.energy().run(calls, run.devices)
    return Row(run, found.device_hours, found.kwh)


def table(rows: list[Row]) -> str:
    """Return the table of the docs, in Markdown: published, range, and expected over published."""
    head = ("run", "hours", "costax", "ratio", "MWh", "costax", "ratio")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for run, hours, kwh in rows:
        cells = [run.name, *cells_of(run.hours, hours, 1e3, "k"), *cells_of(run.kwh, kwh, 1e3, "")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cells_of(published: float | None, found, unit: float, suffix: str) -> list[str]:
    """Return three cells: the published figure, the range, and the ratio of the expected figure to it."""
    numbers = (x / unit for x in (found.low, found.expected, found.high))
    low, expected, high = (f"{x:,.3g}" if x < 1000 else f"{x:,.0f}" for x in numbers)
    text = f"{expected}{suffix} [{low}, {high}]"
    if published is None:
        return ["-", text, "-"]
    return [f"{published / unit:,.5g}{suffix}", text, f"{found.expected / published:.2f}"]


if __name__ == "__main__":
    print(table([row(run) for run in RUNS]))
