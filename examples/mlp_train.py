"""A training step in plain JAX and optax: a small program with a forward pass, a backward pass and an update.

    costax analyze examples/mlp_train.py:mlp_train_step --by direction

The backward pass has two products for each forward product, except for the gradient of the images, which is unused.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import optax

import costax

WIDTHS = (784, 512, 512, 10)
BATCH = 128


def init(key: jax.Array) -> list[dict[str, jax.Array]]:
    """Return weights and biases, layer by layer."""
    keys = jax.random.split(key, len(WIDTHS) - 1)
    return [
        {"w": jax.random.normal(k, (m, n)) * (2 / m) ** 0.5, "b": jnp.zeros(n)}
        for k, (m, n) in zip(keys, pairwise(WIDTHS), strict=True)
    ]


def mlp(params: list[dict[str, jax.Array]], x: jax.Array) -> jax.Array:
    """Return logits (batch, 10) of flattened images (batch, 784)."""
    for i, layer in enumerate(params):
        with jax.named_scope(f"layer_{i}"):
            x = x @ layer["w"] + layer["b"]
            if i < len(params) - 1:
                x = jax.nn.relu(x)
    return x


def mlp_forward() -> costax.Target:
    """Return the network on a batch."""
    params = jax.eval_shape(init, costax.spec("key<fry>[]"))
    return costax.Target(mlp, (params, costax.spec(f"f32[{BATCH},784]")), params_argnums=0)


def mlp_train_step() -> costax.Target:
    """Return one step of Adam: loss, gradients, update."""
    optimizer = optax.adam(1e-3)

    def loss_fn(params, images, labels):
        return optax.softmax_cross_entropy_with_integer_labels(mlp(params, images), labels).mean()

    def train_step(params, opt_state, images, labels):
        loss, grads = jax.value_and_grad(loss_fn)(params, images, labels)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    params = jax.eval_shape(init, costax.spec("key<fry>[]"))
    opt_state = jax.eval_shape(optimizer.init, params)
    images, labels = costax.spec(f"f32[{BATCH},784]"), costax.spec(f"i32[{BATCH}]")
    return costax.Target(train_step, (params, opt_state, images, labels), params_argnums=0)
