"""Compare predicted and measured times on this machine. This example runs programs.

    python examples/predict_vs_measure.py            # calibrates for a few seconds; --full for a minute

It calibrates the CPU first, because costax has no table of CPU speeds.
"""

import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

import costax


def block(params: list[jax.Array], x: jax.Array) -> jax.Array:
    """Return the output of three layers."""
    for i, w in enumerate(params):
        with jax.named_scope(f"layer_{i}"):
            x = jax.nn.gelu(x @ w)
    return x


def arguments(batch: int) -> tuple[list[jax.ShapeDtypeStruct], jax.ShapeDtypeStruct]:
    """Return the shapes of weights and of a batch."""
    params = [jax.ShapeDtypeStruct((512, 512), jnp.float32)] * 3
    return params, jax.ShapeDtypeStruct((batch, 512), jnp.float32)


def main() -> None:
    """Calibrate, then print predicted and measured milliseconds of three batches."""
    with tempfile.TemporaryDirectory() as folder:
        device = costax.calibrate(Path(folder) / "here.toml", quick="--full" not in sys.argv)
    print("batch  predicted   measured")
    for batch in (64, 128, 256):
        predicted = costax.predict(costax.compare(block)(*arguments(batch)), device)
        measured = costax.measure(block, iterations=10, device=device)(*arguments(batch))
        print(f"{batch:5} {predicted.seconds * 1e3:7.2f} ms {measured.latency * 1e3:7.2f} ms")
    print("\n".join(measured.notes))


if __name__ == "__main__":
    main()
