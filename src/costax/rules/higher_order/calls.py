"""Calls: a jaxpr that runs once, with the equation's own inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from costax import _jax
from costax.core.equation import Body, Equation
from costax.errors import Uncountable
from costax.rules.registry import body_rule
from costax.rules.traits import OPAQUE


def _once(eqn: Equation, jaxpr: Any, name: str = "") -> list[Body]:
    """Return the body of a call, which runs once on the operands of the equation."""
    return [Body(jaxpr, name=name, inputs=tuple(range(len(eqn.inputs))))]


@body_rule("jit")
def jit(eqn: Equation) -> Sequence[Body]:
    """A jitted function runs its jaxpr once.

    XLA: HandleCall sums the called computation at each call site.
    """
    return _once(eqn, eqn.params["jaxpr"], str(eqn.params.get("name", "")))


@body_rule("closed_call", "call", "eval_jaxpr", "custom_transpose_call")
def call(eqn: Equation) -> Sequence[Body]:
    """A call runs its jaxpr once.

    XLA: HandleCall sums the called computation at each call site.
    """
    return _once(eqn, eqn.params["call_jaxpr"])


@body_rule("custom_jvp_call", "custom_jvp_call_jaxpr")
def custom_jvp(eqn: Equation) -> Sequence[Body]:
    """A custom_jvp function runs its body once; in a gradient jax has traced its rule instead.

    XLA: lowered to a call of the body.
    """
    return _once(eqn, eqn.params["call_jaxpr" if "call_jaxpr" in eqn.params else "fun_jaxpr"])


@body_rule("custom_vjp_call")
def custom_vjp(eqn: Equation) -> Sequence[Body]:
    """A custom_vjp function runs its body once; in a gradient jax has traced `fwd` and `bwd` instead.

    XLA: lowered to a call of the body.
    """
    return _once(eqn, eqn.params["call_jaxpr" if "call_jaxpr" in eqn.params else "fun_jaxpr"])


@body_rule("custom_vmap_call")
def custom_vmap(eqn: Equation) -> Sequence[Body]:
    """A custom_vmap function runs its body once; under `vmap` jax has traced its rule instead.

    XLA: lowered to a call of the body.
    """
    return _once(eqn, eqn.params["call"])


@body_rule("remat2")
def remat(eqn: Equation) -> Sequence[Body]:
    """A checkpointed function runs its jaxpr once; in a gradient the jaxpr has the recomputation, in its own scope.

    XLA: behind an optimisation barrier; the CPU compiler may still merge the recomputation with the forward pass.
    """
    return _once(eqn, eqn.params["jaxpr"])


@body_rule("custom_dce_call")
def custom_dce(eqn: Equation) -> Sequence[Body]:
    """A function with its own dead-code elimination runs its body once; jax has replaced it where a part is enough.

    XLA: lowered to a call of the body.
    """
    return _once(eqn, eqn.params["fun_jaxpr"])


@body_rule("remat_opt")
def remat_opt(eqn: Equation) -> Sequence[Body]:
    """The forward pass of a custom_vjp function under remat runs once, with its residuals.

    XLA: lowered to a call of the forward pass.
    """
    return _once(eqn, eqn.params["fwd_jaxpr"])


@body_rule("compute_on", "xla_metadata_call", "fused_call", "fusible", "custom_fusion", "jaxpr_call")
def annotated_call(eqn: Equation) -> Sequence[Body]:
    """A call with annotations (where to run, what to fuse, attributes for the compiler) runs its jaxpr once.

    XLA: HandleCall sums the called computation; a fusion that a library or a kernel implements is a custom call, -1.
    """
    return _once(eqn, eqn.params["jaxpr"])


@body_rule("call_hi_primitive")
def call_hi_primitive(eqn: Equation) -> Sequence[Body]:
    """A primitive of higher types runs its expansion into ordinary ones once.

    XLA: sees the expansion only.
    """
    return _once(eqn, _jax.expansion(eqn.params["_prim"]))


@body_rule("custom_lin", "call_hi_primitive_linearized")
def custom_lin(eqn: Equation) -> Sequence[Body]:
    """The linear part of a function that has only a backward rule: jax cannot run it forward.

    It occurs only in the jaxpr between the linearisation and the transposition of a gradient.
    XLA: never sees it; lowering it is an error.
    """
    raise Uncountable("is the linear half of a gradient, which jax cannot run")


@body_rule("custom_partitioning")
def custom_partitioning(eqn: Equation) -> Sequence[Body]:
    """The function runs once on the whole arrays; only its own partitioner knows how it is split over devices.

    XLA: a custom call, -1 FLOP, when it is lowered for several devices; else a call.
    """
    return _once(eqn, eqn.params["call"])


@body_rule("linear_call")
def linear_call(eqn: Equation) -> Sequence[Body]:
    """A linear call runs its callee once; in a gradient jax has traced its transpose instead.

    XLA: lowered to a call of the body.
    """
    return _once(eqn, eqn.params["callee"])


@body_rule("run_state")
def run_state(eqn: Equation) -> Sequence[Body]:
    """A stateful function runs its jaxpr once on references to its inputs.

    XLA: references are discharged into values before lowering.
    """
    return _once(eqn, eqn.params["jaxpr"])


@body_rule("composite")
def composite(eqn: Equation) -> Sequence[Body]:
    """A composite runs its decomposition once, unless the compiler knows the composite by name.

    XLA: inlines the decomposition.
    """
    return _once(eqn, eqn.params["jaxpr"])


@body_rule("custom_linear_solve", traits=OPAQUE)
def custom_linear_solve(eqn: Equation) -> Sequence[Body]:
    """The solver runs once. The matrix-vector product is for derivatives; the solver runs it itself if it needs it.

    XLA: lowered to a call of the solver.
    """
    lengths, jaxprs = eqn.params["const_lengths"], eqn.params["jaxprs"]
    start = lengths.matvec + lengths.vecmat
    right_hand_side = range(sum(lengths), len(eqn.inputs))
    return [Body(jaxprs.solve, name="solve", inputs=(*range(start, start + lengths.solve), *right_hand_side))]
