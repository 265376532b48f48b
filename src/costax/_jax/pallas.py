"""Pallas: the cost estimate that a kernel passes to XLA's scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core as _extend_core

from costax._jax.jaxprs import map_jaxprs, opened, with_equations

# Untyped, because jax's annotations are incomplete.
_api: Any = jax


def pallas_cost_estimate(flops: int, transcendentals: int, bytes_accessed: int, remote_bytes: int) -> Any:
    """Return a `pl.CostEstimate`. Pallas takes a second to import, so it is imported here."""
    from jax.experimental import pallas

    make: Any = pallas.CostEstimate
    return make(
        flops=flops,
        transcendentals=transcendentals,
        bytes_accessed=bytes_accessed,
        remote_bytes_transferred=remote_bytes,
    )


def closed_jaxpr(fn: Callable[..., Any], args: Sequence[Any]) -> tuple[Any, Any]:
    """Return the jaxpr of a function of arrays, and the tree of its results."""
    jaxpr, results = _api.make_jaxpr(fn, return_shape=True)(*args)
    return jaxpr, _api.tree.structure(results)


def evaluated(jaxpr: Any, args: Sequence[Any], results: Any) -> Any:
    """Evaluate a closed jaxpr. results: the tree of its results."""
    return _api.tree.unflatten(results, _extend_core.jaxpr_as_fun(jaxpr)(*args))


def with_kernel_estimates(jaxpr: Any, estimate: Callable[[Any], Any]) -> Any:
    """Return a jaxpr in which each `pallas_call` without a cost estimate has the one of `estimate(equation)`."""
    rewritten: dict[int, Any] = {}

    def rewrite(inner: Any) -> Any:
        if id(inner) not in rewritten:
            rewritten[id(inner)] = with_equations(inner, [changed(eqn) for eqn in opened(inner).eqns])
        return rewritten[id(inner)]

    def changed(eqn: Any) -> Any:
        if eqn.primitive.name == "pallas_call":
            missing = eqn.params.get("cost_estimate") is None
            return eqn.replace(params={**eqn.params, "cost_estimate": estimate(eqn)}) if missing else eqn
        return eqn.replace(params={name: map_jaxprs(value, rewrite) for name, value in eqn.params.items()})

    return rewrite(jaxpr)
