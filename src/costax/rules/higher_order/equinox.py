"""Primitives of equinox and lineax: each runs the jax function that implements it."""

from __future__ import annotations

from collections.abc import Sequence

from costax import _jax
from costax._jax.spec import spec
from costax.core.equation import Body, Equation
from costax.core.polynomial import Polynomial
from costax.errors import Undecided
from costax.rules.registry import body_rule
from costax.rules.traits import ELEMENTWISE, IDENTITY, NO_TRAITS, OPAQUE, REDUCTION, Function, Traits


@body_rule("linear_solve", traits=OPAQUE)
@body_rule("maybe_set", traits=Traits(in_place=True))
@body_rule("nonbatchable", "nondifferentiable_backward", "nontraceable", traits=IDENTITY)
@body_rule("select_if_vmap", traits=ELEMENTWISE.but(function=Function.SELECT))
@body_rule("unvmap_all", "unvmap_any", "unvmap_max", traits=REDUCTION)
@body_rule("vprim", traits=NO_TRAITS)
def equinox_primitive(eqn: Equation) -> Sequence[Body]:
    """A primitive of equinox or lineax runs the jax function that implements it, once.

    XLA: sees the implementation only.
    """
    if any(isinstance(extent, Polynomial) for x in eqn.inputs for extent in x.shape):
        raise Undecided(f"the implementation of {eqn.name} can be traced for numeric shapes only")
    jaxpr = _jax.implementation(eqn.name, [spec(str(x)) for x in eqn.inputs], eqn.params)
    return [Body(jaxpr, name=eqn.name, inputs=tuple(range(len(eqn.inputs))))]
