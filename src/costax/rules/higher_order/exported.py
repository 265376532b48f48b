"""Functions exported with `jax.export`: StableHLO that a jaxpr calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from costax import _jax
from costax.core.equation import Body, Equation, Operand
from costax.core.polynomial import Polynomial
from costax.errors import Undecided
from costax.rules.higher_order.stablehlo import StablehloFunction, StablehloReader
from costax.rules.registry import body_rule


@body_rule("call_exported")
def call_exported(eqn: Equation) -> Sequence[Body]:
    """An exported function runs once; each operation of its StableHLO counts.

    A primitive that jax lowered to several operations counts as these: a cumulative sum as the windows that it became.
    Symbolic dimensions take the sizes of the call.
    XLA: HandleCall sums the called computation.
    """
    if any(isinstance(extent, Polynomial) for x in eqn.inputs for extent in x.shape):
        raise Undecided("an exported function can be counted only for concrete sizes, not for symbols")
    exported = eqn.params["exported"]
    return [Body(_main_function(exported, eqn.inputs), name=str(exported.fun_name))]


@lru_cache(maxsize=16)
def _main_function(exported: Any, inputs: tuple[Operand, ...]) -> StablehloFunction:
    return StablehloReader(_jax.exported_module(exported, inputs)).function("main")
