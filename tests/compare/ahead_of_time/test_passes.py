"""The passes of the compiler of another machine: the trail begins and ends at the stages of the comparison."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import costax
from aot_targets import BOTH, f32


def layers(x, w):
    with jax.named_scope("first"):
        x = jnp.tanh(x @ w)
    with jax.named_scope("second"):
        x = jax.nn.softmax(x @ w)
    return x.sum()


@BOTH
def test_the_steps_lead_from_the_lowered_to_the_compiled_stage(target):
    comparison = costax.compare(jax.grad(layers, argnums=1), target=target, passes=True)(f32(64, 128), f32(128, 128))
    trail = comparison.passes
    assert trail.before == comparison.lowered.total
    assert trail.after == comparison.compiled.total
    for i in range(3):
        assert trail.before[i] + sum(step.cost[i] for step in trail.steps) == trail.after[i]
    assert any(step.cost.flops for step in trail.steps), "no pass changed the FLOPs of a softmax and its gradient"
    scopes = {scope for step in trail.steps for scope in step.scopes}
    assert {("first",), ("second",)} <= scopes
