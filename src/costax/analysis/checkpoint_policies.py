"""Checkpoint policies: the residuals that a gradient saves under each policy of jax, by scope. Nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jax

from costax._jax import pytrees
from costax.analysis.analyze import analyze
from costax.core.cost import Count
from costax.core.display import Printed
from costax.core.listing import listed, shown
from costax.errors import InputError
from costax.performance.memory import Residual

_api: Any = jax
WITHOUT: Final = "no checkpoint"
POLICIES: Final = (
    "everything_saveable",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
    "nothing_saveable",
)


@dataclass(frozen=True)
class Saved(Printed):
    """The residuals of a gradient under one policy, and the FLOPs of the gradient.

    residuals: the arrays that the forward pass saves for the backward pass, without arguments of the function, which
    stay in memory anyway. flops: of the forward and backward pass, recomputed work included.
    """

    policy: str
    residuals: Sequence[Residual] = field(repr=False)
    flops: Count

    @property
    def nbytes(self) -> Count:
        """Bytes of all residuals."""
        return sum(residual.nbytes for residual in self.residuals)

    @listed
    def by_scope(self, depth: int | None = None) -> dict[str, Count]:
        """Return the bytes that each scope saves; scope paths have at most `depth` parts."""
        sums: dict[str, Count] = {}
        for residual in self.residuals:
            scope = "/".join(residual.scope.split("/")[:depth])
            sums[scope] = sums.get(scope, 0) + residual.nbytes
        return sums


def saved_by_policy(
    fn: Callable[..., Any], policies: Mapping[str, Any] | Sequence[str] = POLICIES
) -> Callable[..., dict[str, Saved]]:
    """Return a function that takes the arguments of `fn` and returns the residuals of its gradient for each policy.

    Args:
        fn: A function of floating arguments whose result is a number.
        policies: Names in `jax.checkpoint_policies`, or a mapping from your own names to policies. The first entry
            of the result is "no checkpoint". The gradient is taken with respect to every floating argument.

    Raises InputError for a policy that jax does not have.
    """
    by_name = {name: _named(name) for name in policies} if not isinstance(policies, Mapping) else dict(policies)

    def call(*args: Any) -> dict[str, Saved]:
        plain = {WITHOUT: fn, **{name: _api.checkpoint(fn, policy=policy) for name, policy in by_name.items()}}
        return shown({name: _saved(name, function, args) for name, function in plain.items()})

    return call


def _named(name: str) -> Any:
    policy = getattr(_api.checkpoint_policies, name, None)
    if policy is None:
        known = [other for other in dir(_api.checkpoint_policies) if not other.startswith("_")]
        raise InputError(
            f"jax has no checkpoint policy {name!r}.",
            why=f"jax.checkpoint_policies has {', '.join(known)}.",
            cure="Use one of these names, or pass your own policy: policies={'mine': policy}.",
        )
    return policy


def _saved(name: str, function: Callable[..., Any], args: Sequence[Any]) -> Saved:
    leaves, tree = pytrees.flatten(tuple(args))
    floating = [i for i, leaf in enumerate(leaves) if _api.numpy.issubdtype(leaf.dtype, _api.numpy.inexact)]

    def gradient(values: list[Any]) -> Any:
        def with_floating(differentiated: list[Any]) -> Any:
            full = list(values)
            for i, value in zip(floating, differentiated, strict=True):
                full[i] = value
            return function(*pytrees.unflatten(tree, full))

        out, pull = _api.vjp(with_floating, [values[i] for i in floating])
        return out, pull(_api.tree.map(_api.numpy.ones_like, out))

    analysis = analyze(gradient)(leaves)
    return Saved(name, analysis.saved_residuals(), analysis.total.flops)
