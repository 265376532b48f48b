"""An LSTM language model in Haiku: the medium model of Zaremba et al.

    costax analyze examples/lstm.py:lstm_language_model
    costax compare examples/lstm.py:lstm_train_step

"Recurrent Neural Network Regularization", 2014: two layers of 650 units, 10,000 words, 35 steps of 20 sequences. The
steps are a `scan`, so XLA's own count includes one of the 35.
"""

import haiku as hk
import jax
import optax

import costax

VOCAB, UNITS, LAYERS = 10_000, 650, 2


def language_model(tokens: jax.Array) -> jax.Array:
    """Return logits (steps, batch, vocab) for the next word of each position; tokens: (steps, batch)."""
    words = hk.Embed(VOCAB, UNITS, name="embed")(tokens)
    core = hk.DeepRNN([hk.LSTM(UNITS, name=f"lstm_{i}") for i in range(LAYERS)])
    states, _ = hk.dynamic_unroll(core, words, core.initial_state(tokens.shape[1]))
    return hk.Linear(VOCAB, name="softmax")(states)


def lstm_language_model() -> tuple[hk.Transformed, tuple]:
    """Return the model on 35 steps of 20 sequences: 19.8 M parameters."""
    return hk.transform(language_model), (costax.spec("i32[35,20]"),)


def lstm_train_step() -> costax.Target:
    """Return one step of gradient descent: backpropagation through 35 steps, clipping, update."""
    model = hk.without_apply_rng(hk.transform(language_model))
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.sgd(1.0))

    def loss_fn(params, tokens):
        logits = model.apply(params, tokens[:-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[1:]).mean()

    def train_step(params, opt_state, tokens):
        loss, grads = jax.value_and_grad(loss_fn)(params, tokens)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    params = jax.eval_shape(model.init, costax.spec("key<fry>[]"), costax.spec("i32[35,20]"))
    opt_state = jax.eval_shape(optimizer.init, params)
    return costax.Target(train_step, (params, opt_state, costax.spec("i32[36,20]")), params_argnums=0)
