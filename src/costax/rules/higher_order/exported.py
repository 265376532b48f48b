"""Functions that come from `jax.export`: StableHLO, called from a jaxpr."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from costax import _jax
from costax.core.equation import Body, Equation, Operand
from costax.core.polynomial import Polynomial
from costax.errors import Undecided
from costax.rules.higher_order.stablehlo import Computation, Reader
from costax.rules.registry import body_rule


@body_rule("call_exported")
def call_exported(eqn: Equation) -> Sequence[Body]:
    """An exported function runs once, as it was lowered when it was exported: each operation of its StableHLO counts.

    What jax lowers to several operations is counted as these: a cumulative sum as the windows that it became. Symbolic
    dimensions take the sizes of the call.
    XLA: HandleCall sums the called computation.
    """
    if any(isinstance(extent, Polynomial) for x in eqn.inputs for extent in x.shape):
        raise Undecided("an exported function is read for numbers alone")
    exported = eqn.params["exported"]
    return [Body(_computation(exported, eqn.inputs), name=str(exported.fun_name))]


@lru_cache(maxsize=16)
def _computation(exported: Any, inputs: tuple[Operand, ...]) -> Computation:
    return Reader(_jax.exported_module(exported, inputs)).function("main")
