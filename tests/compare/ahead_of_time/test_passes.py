"""The passes of the compiler of another machine: the trail begins and ends at the stages of the comparison."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import costax
from aot_targets import BOTH, H100, f32, is_exact
from costax.compare.causes import COMPILED


def layers(x, w):
    with jax.named_scope("first"):
        x = jnp.tanh(x @ w)
    with jax.named_scope("second"):
        x = jax.nn.softmax(x @ w)
    return x.sum()


@BOTH
def test_the_steps_lead_from_the_lowered_to_the_compiled_stage(target):
    comparison = costax.compare(jax.grad(layers, argnums=1), target=target)(f32(64, 128), f32(128, 128))
    trail = comparison.passes
    assert trail.before == comparison.lowered.total
    assert trail.after == comparison.compiled.total
    for i in range(3):
        assert trail.before[i] + sum(step.cost[i] for step in trail.steps) == trail.after[i]
    assert any(step.cost.flops for step in trail.steps), "no pass changed the FLOPs of a softmax and its gradient"
    scopes = {scope for step in trail.steps for scope in step.scopes}
    assert {("first",), ("second",)} <= scopes


@BOTH
def test_each_step_has_its_owners_and_its_differences(target):
    comparison = costax.compare(jax.grad(layers, argnums=1), target=target)(f32(64, 128), f32(128, 128))
    is_exact(comparison)
    assert not comparison.unexplained
    for step in comparison.passes.steps:
        assert step.attributed >= 0.999, step.name
        deltas = [delta for delta in comparison.deltas if delta.run == step.number]
        assert {delta.pass_name for delta in deltas} <= {step.name}
        assert (sum(d.flops for d in deltas), sum(d.transcendentals for d in deltas)) == step.cost[:2]
    by_pass = {name: tuple(cost[:2]) for name, cost in comparison.passes.by_pass().items() if any(cost[:2])}
    assert {name: tuple(pair) for name, pair in comparison.by_pass().items() if any(pair)} == by_pass


@BOTH
def test_without_passes_the_net_change_is_the_same(target):
    args = f32(64, 128), f32(128, 128)
    whole, net = (costax.compare(layers, target=target, passes=passes)(*args) for passes in (True, False))
    assert net.passes is None
    assert whole.xla["flops"] == net.xla["flops"]
    assert {delta.cause for delta in net.deltas if delta.stage == "compiled"} <= {COMPILED}
    assert not net.unexplained
    is_exact(net)


@pytest.mark.parametrize("target", [H100])
def test_options_of_xla_reach_the_compiler_of_another_machine(target):
    flags = {"xla_gpu_enable_triton_gemm": False}
    plain, other = (
        costax.compare(jnp.matmul, target=target, xla_flags=x)(f32(256, 256), f32(256, 256)) for x in ({}, flags)
    )
    assert other.xla_flags == {"xla_gpu_enable_triton_gemm": "false"}
    is_exact(other)
    # Without Triton the product is a call of cuBLAS, which counts -1.
    assert "cublas" in " ".join(cost.opcode for cost in other.compiled.instruction_costs)
    assert other.xla["flops"] == -1
    assert other.compiled.executed.flops == 2 * 256**3 <= plain.compiled.executed.flops
