"""At which batch size does arithmetic, and no longer memory, limit a matrix product?

    python examples/roofline.py

A wide layer in bfloat16 reads its weights once for each batch. "How To Scale Your Model" gives about 240 tokens for
a TPU v5e and about 300 for an H100. This is the ridge of the roofline, in FLOPs for each byte of weights.
"""

import jax
import jax.numpy as jnp

import costax

WIDTH = 32768


def layer(weights: jax.Array, tokens: jax.Array) -> jax.Array:
    """Return a projection of tokens (batch, width)."""
    return tokens @ weights


def bound(device: str, batch: int) -> str:
    """Return the resource that limits a batch, by the device's peaks."""
    weights = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.bfloat16)
    tokens = jax.ShapeDtypeStruct((batch, WIDTH), jnp.bfloat16)
    prediction = costax.predict(costax.analyze(layer)(weights, tokens), device)
    return "matmul unit" if prediction.intensity["compulsory"] > prediction.ridge else "memory"


def crossing(device: str) -> int:
    """Return the smallest batch that the matmul unit limits."""
    return next(batch for batch in range(8, 1024, 8) if bound(device, batch) == "matmul unit")


def main() -> None:
    """Print the crossing for each device, and the whole prediction for one batch."""
    for device in ("v5e", "h100-sxm", "a100-sxm-80", "v5p", "b200"):
        chosen = costax.device(device)
        ridge = chosen.peaks["bf16"].value / chosen.bandwidth.value
        print(
            f"{chosen.name:30} ridge {ridge:5.0f} FLOPs a byte, bound by arithmetic from {crossing(device)} tokens on"
        )
    weights = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.bfloat16)
    tokens = jax.ShapeDtypeStruct((64, WIDTH), jnp.bfloat16)
    print()
    print(costax.predict(costax.analyze(layer)(weights, tokens), "v5e", tokens=64))


if __name__ == "__main__":
    main()
