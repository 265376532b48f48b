"""Time, energy and money of a training run of Chinchilla's length: twenty tokens for each parameter.

    python examples/training_budget.py

Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022. Each device processes its own sequences.
Communication between the devices is ignored, so the time is that of a perfect network.
"""

from functools import partial

import jax
import jax.numpy as jnp
import llama
import optax

import costax

MODEL = llama.Config(24, 2048, 16, 16, 5504, 32000, 10000.0, scan=True)
SEQUENCES, CONTEXT, DEVICES = 8, 2048, 64
TOKENS_A_PARAMETER = 20
# Your own figures: grams of CO2 per kWh, price of a device per hour, power usage effectiveness of the building.
CARBON, PRICE, OVERHEAD = 300.0, 2.5, 1.1


def train_step() -> costax.Target:
    """Return one step of AdamW for the sequences of one device."""
    optimizer = optax.adamw(3e-4)

    def loss_fn(params, tokens):
        logits = llama.forward(params, tokens[:, :-1], MODEL).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    def step(params, state, tokens):
        loss, grads = jax.value_and_grad(loss_fn)(params, tokens)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    params = jax.eval_shape(partial(llama.init, c=MODEL), costax.spec("key<fry>[]"))
    state = jax.eval_shape(optimizer.init, params)
    tokens = costax.spec(f"i32[{SEQUENCES},{CONTEXT + 1}]")
    return costax.Target(step, (params, state, tokens), params_argnums=0)


def main() -> None:
    """Print the cost of the run on three devices."""
    analysis = costax.analyze(train_step())()
    tokens = TOKENS_A_PARAMETER * analysis.params
    a_call = SEQUENCES * CONTEXT
    calls = tokens / (a_call * DEVICES)
    model_flops = 6 * analysis.params * tokens
    print(f"{analysis.params / 1e9:.2f} G parameters, {tokens / 1e9:.0f} G tokens: 6ND = {model_flops:.2e} FLOPs")
    print(f"{calls:,.0f} steps of {a_call * DEVICES:,} tokens on {DEVICES} devices\n")
    for device in ("a100-sxm-80", "h100-sxm", "b200"):
        prediction = costax.predict(analysis, device, tokens=a_call)
        run = prediction.energy().run(calls, DEVICES, carbon_intensity=CARBON, price=PRICE, overhead=OVERHEAD)
        print(f"{prediction.device.name}: MFU {prediction.mfu:.0%}, HFU {prediction.hfu:.0%}")
        print(f"{run}\n")


if __name__ == "__main__":
    main()
