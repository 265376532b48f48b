"""The 6ND rule and exact counts: training FLOPs per token of GPT-style models from 10 M to 100 B parameters.

    python examples/scaling_law.py scaling_law.png

One trace of each model gives the FLOPs of a training step as a formula in the sequence length `s`. The table compares
it with two rules: Kaplan et al. 2020 (arXiv:2001.08361), 6 FLOPs per token and parameter; Chowdhery et al. 2022 (PaLM,
arXiv:2204.02311, appendix B), which adds 12 L H Q T for the scores of attention over T positions.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp

import costax

CONTEXT, VOCAB = 2048, 50257
# name, layers L, heads H, head size Q: models of Brown et al. 2020 (GPT-3, table 2.1), and smaller and larger models
MODELS = [
    ("10M", 6, 5, 32),
    ("40M", 8, 7, 64),
    ("125M", 12, 12, 64),
    ("350M", 24, 16, 64),
    ("760M", 24, 16, 96),
    ("1.3B", 24, 16, 128),
    ("2.7B", 32, 20, 128),
    ("6.7B", 32, 32, 128),
    ("13B", 40, 40, 128),
    ("30B", 48, 56, 128),
    ("66B", 64, 72, 128),
    ("100B", 80, 80, 128),
]


def parameters(layers: int, width: int) -> dict:
    """Return the shapes of the parameters; layers are stacked, so that jax traces one layer."""
    bf16 = partial(jax.ShapeDtypeStruct, dtype=jnp.bfloat16)
    matrices = {"qkv": (width, 3 * width), "out": (width, width), "up": (width, 4 * width), "down": (4 * width, width)}
    stack = {name: bf16((layers, *shape)) for name, shape in matrices.items()}
    return {"embed": bf16((VOCAB, width)), "layers": stack}


def loss(params: dict, tokens: jax.Array, heads: int) -> jax.Array:
    """Return the loss of a decoder whose head is tied to its embedding."""

    def norm(x: jax.Array) -> jax.Array:
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)

    def layer(x: jax.Array, w: dict) -> tuple[jax.Array, None]:
        b, s, width = x.shape
        with jax.named_scope("attention"):
            q, k, v = jnp.split((norm(x) @ w["qkv"]).reshape(b, s, heads, -1), 3, axis=-1)
            scores = jnp.where(jnp.tri(s, dtype=bool), jnp.einsum("bqhd,bkhd->bhqk", q, k), -1e9)
            mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)
            x = x + mixed.reshape(b, s, width) @ w["out"]
        with jax.named_scope("mlp"):
            return x + jax.nn.gelu(norm(x) @ w["up"]) @ w["down"], None

    x, _ = jax.lax.scan(layer, params["embed"][tokens], params["layers"])
    logits = (norm(x) @ params["embed"].T).astype(jnp.float32)
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], -1))


def make(layers: int, heads: int, head: int, context: str | int = CONTEXT) -> costax.Target:
    """Return the loss and its gradient, on one sequence."""
    step = jax.value_and_grad(partial(loss, heads=heads))
    tokens = costax.spec(f"i32[1,{context}]")
    return costax.Target(step, (parameters(layers, heads * head), tokens), params_argnums=0)


def rows(models: list = MODELS, context: int = CONTEXT) -> list[dict]:
    """Return the exact FLOPs per token of each model, and those by the two rules."""
    found = []
    for name, layers, heads, head in models:
        analysis = costax.analyze(make(layers, heads, head, "s"))()
        exact = analysis.formula("flops")(s=context) / context
        simple = 6 * analysis.params
        palm = simple + 12 * layers * heads * head * context
        found.append(
            {"model": name, "params": analysis.params, "exact": exact, "6N": simple, "6N + 12LHQT": palm}
            | {"formula": str(analysis.formula("macs"))}
        )
    return found


def plot(table: list[dict], path: str) -> None:
    """Plot the FLOPs per token, and the error of each rule, over the parameters."""
    import matplotlib.pyplot as plt

    figure, (counts, errors) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    sizes = [row["params"] for row in table]
    counts.loglog(sizes, [row["exact"] for row in table], "ko", label="exact (costax)")
    for rule, style in (("6N", "C3--"), ("6N + 12LHQT", "C0-")):
        counts.loglog(sizes, [row[rule] for row in table], style, label=rule)
        errors.semilogx(sizes, [100 * (row[rule] / row["exact"] - 1) for row in table], style, marker="o", label=rule)
    counts.set(xlabel="parameters N", ylabel="training FLOPs a token", title=f"GPT-style models, context {CONTEXT}")
    errors.set(xlabel="parameters N", ylabel="error of the rule (%)", title="What the rules leave out")
    errors.axhline(0, color="k", linewidth=0.8)
    for axes in (counts, errors):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Print the table; with an argument, save the plot to that file."""
    table = rows()
    print(f"{'model':>6} {'parameters':>16} {'FLOPs a token':>16} {'6N':>8} {'6N + 12LHQT':>12}")
    for row in table:
        errors = [row[rule] / row["exact"] - 1 for rule in ("6N", "6N + 12LHQT")]
        counts = f"{row['params']:16,} {row['exact']:16.4g}"
        print(f"{row['model']:>6} {counts} {errors[0]:+8.1%} {errors[1]:+12.1%}")
    print(f"\nMACs of the {table[2]['model']} model: {table[2]['formula']}")
    if len(sys.argv) > 1:
        plot(table, sys.argv[1])


if __name__ == "__main__":
    main()
