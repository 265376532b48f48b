"""Policies: what a gradient would save under each of jax's checkpoint policies, by scope; nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax

from costax._jax import pytrees
from costax.analysis.analyze import analyze
from costax.core.cost import Count
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
class Saved:
    """What a gradient saves under a policy, and what it then works out again.

    residuals: arrays that the forward pass leaves for the backward pass; arguments are there anyway. flops: of the
    whole gradient.
    """

    policy: str
    residuals: Sequence[Residual]
    flops: Count

    @property
    def nbytes(self) -> Count:
        """Bytes of all residuals together."""
        return sum(residual.nbytes for residual in self.residuals)

    def by_scope(self, depth: int | None = None) -> dict[str, Count]:
        """Return the bytes that each scope leaves, cut at `depth` parts."""
        sums: dict[str, Count] = {}
        for residual in self.residuals:
            scope = "/".join(residual.scope.split("/")[:depth])
            sums[scope] = sums.get(scope, 0) + residual.nbytes
        return sums


def saved_by_policy(
    fn: Callable[..., Any], policies: Mapping[str, Any] | Sequence[str] = POLICIES
) -> Callable[..., dict[str, Saved]]:
    """Return a function that takes the arguments of `fn` and says what its gradient saves under each policy.

    policies: names of `jax.checkpoint_policies`, or policies by names of your own. What is saved without a checkpoint
    stands first. Every floating argument is differentiated by. Raises InputError for a policy that jax does not have.
    """
    chosen = {name: _named(name) for name in policies} if not isinstance(policies, Mapping) else dict(policies)

    def call(*args: Any) -> dict[str, Saved]:
        plain = {WITHOUT: fn, **{name: _api.checkpoint(fn, policy=policy) for name, policy in chosen.items()}}
        return {name: _saved(name, function, args) for name, function in plain.items()}

    return call


def _named(name: str) -> Any:
    found = getattr(_api.checkpoint_policies, name, None)
    if found is None:
        known = [policy for policy in dir(_api.checkpoint_policies) if not policy.startswith("_")]
        raise InputError(
            f"jax has no checkpoint policy {name!r}.",
            why=f"It has {', '.join(known)}.",
            cure="Name one of these, or pass policies={'mine': policy}.",
        )
    return found


def _saved(name: str, function: Callable[..., Any], args: Sequence[Any]) -> Saved:
    leaves, tree = pytrees.flatten(tuple(args))
    floating = [i for i, leaf in enumerate(leaves) if _api.numpy.issubdtype(leaf.dtype, _api.numpy.inexact)]

    def gradient(values: list[Any]) -> Any:
        def of(differentiated: list[Any]) -> Any:
            full = list(values)
            for i, value in zip(floating, differentiated, strict=True):
                full[i] = value
            return function(*pytrees.unflatten(tree, full))

        out, pull = _api.vjp(of, [values[i] for i in floating])
        return out, pull(_api.tree.map(_api.numpy.ones_like, out))

    found = analyze(gradient)(leaves)
    return Saved(name, found.saved_residuals(), found.total.flops)
