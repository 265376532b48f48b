"""A mixture of experts in plain JAX: the feed-forward layer of Mixtral 8x7B, in a dropless and a dense version.

    costax analyze examples/moe.py:moe_layer
    costax analyze examples/moe.py:moe_layer_dense

Jiang et al., "Mixtral of Experts", 2024. The dropless layer sorts the tokens by expert and multiplies each group by
its expert's matrix (`ragged_dot`), so it does top_k / experts of the dense layer's work, which is a quarter.
"""

import jax
import jax.numpy as jnp

import costax

WIDTH, HIDDEN, EXPERTS, TOP_K = 4096, 14336, 8, 2


def init(key: jax.Array) -> dict[str, jax.Array]:
    """Return the router and the three matrices of each expert."""
    shapes = {
        "router": (WIDTH, EXPERTS),
        "gate": (EXPERTS, WIDTH, HIDDEN),
        "up": (EXPERTS, WIDTH, HIDDEN),
        "down": (EXPERTS, HIDDEN, WIDTH),
    }
    normal = jax.nn.initializers.normal(0.02, jnp.bfloat16)
    keys = jax.random.split(key, len(shapes))
    return {name: normal(k, s) for k, (name, s) in zip(keys, shapes.items(), strict=True)}


@jax.named_scope("router")
def route(params: dict[str, jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the weights and the indices of each token's experts, both (tokens, top_k)."""
    logits, chosen = jax.lax.top_k((x @ params["router"]).astype(jnp.float32), TOP_K)
    return jax.nn.softmax(logits).astype(x.dtype), chosen


def dropless(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Apply to each token only its own experts: (tokens, width) -> (tokens, width)."""
    weights, chosen = route(params, x)
    with jax.named_scope("dispatch"):
        order = jnp.argsort(chosen.reshape(-1))
        rows = x[order // TOP_K]
        group_sizes = jnp.bincount(chosen.reshape(-1), length=EXPERTS)

    def linear(name: str, rows: jax.Array) -> jax.Array:
        # (rows, m) x (experts, m, n) -> (rows, n): one expert for each row
        with jax.named_scope(name):
            return jax.lax.ragged_dot(rows, params[name], group_sizes)

    with jax.named_scope("experts"):
        rows = linear("down", jax.nn.silu(linear("gate", rows)) * linear("up", rows))
    with jax.named_scope("combine"):
        rows = rows * weights.reshape(-1)[order][:, None]
        return jnp.zeros_like(x).at[order // TOP_K].add(rows)


def dense(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Apply all experts to each token, most of them with weight zero: (tokens, width) -> (tokens, width)."""
    weights, chosen = route(params, x)
    with jax.named_scope("experts"):
        gate = jnp.einsum("tm,emn->etn", x, params["gate"])
        up = jnp.einsum("tm,emn->etn", x, params["up"])
        outputs = jnp.einsum("etn,enm->etm", jax.nn.silu(gate) * up, params["down"])
    with jax.named_scope("combine"):
        share = (jax.nn.one_hot(chosen, EXPERTS, dtype=x.dtype) * weights[..., None]).sum(axis=1)
        return (outputs * share.T[..., None]).sum(axis=0)


def moe_layer() -> costax.Target:
    """Return the dropless layer on 4096 tokens: each token costs two experts."""
    params = jax.eval_shape(init, costax.spec("key<fry>[]"))
    return costax.Target(dropless, (params, costax.spec("bf16[4096,4096]")), params_argnums=0)


def moe_layer_dense() -> costax.Target:
    """Return the dense layer on 4096 tokens: each token costs eight experts."""
    params = jax.eval_shape(init, costax.spec("key<fry>[]"))
    return costax.Target(dense, (params, costax.spec("bf16[4096,4096]")), params_argnums=0)
