"""Callbacks and foreign functions, tokens, and values that are known when a program is compiled."""

from __future__ import annotations

from costax import _jax
from costax.core.cost import Cost
from costax.core.equation import Equation
from costax.errors import Foreign
from costax.rules.registry import cost_rule, free, no_traffic
from costax.rules.traits import GENERATOR, NO_TRAITS, OPAQUE

free(
    "debug_callback",
    "debug_print",
    "check",
    because="It prints or checks values on the host, and computes no result: the device only sends the operands, whose "
    "bytes are counted. XLA: a custom call, -1 FLOP.",
    traits=NO_TRAITS,
)


@cost_rule("pure_callback", "io_callback", traits=OPAQUE)
def callback(eqn: Equation) -> Cost:
    """The cost of a Python function on the host is not in the program; only its author knows it.

    It is listed as uncounted, with the name of the function, unless the user registers a rule with
    `@costax.cost_rule("pure_callback", override=True)`. The bytes of its operands and results are counted.
    XLA: HandleCustomCall, -1 FLOP.
    """
    raise Foreign(f"runs {_jax.callback_name(eqn.params)} on the host, whose work only its author knows")


@cost_rule("ffi_call", traits=OPAQUE)
def ffi_call(eqn: Equation) -> Cost:
    """The cost of a foreign function is not in the program; only its author knows it.

    It is listed as uncounted, with the name of its target, unless the user registers a rule with
    `@costax.cost_rule("ffi_call", override=True)`, which reads `eqn.params["target_name"]`. The bytes of its operands
    and results are counted.
    XLA: HandleCustomCall, -1 FLOP.
    """
    raise Foreign(f"calls the foreign function {eqn.params.get('target_name', '')!r}, whose work only its author knows")


@cost_rule("buffer_callback", traits=OPAQUE)
def buffer_callback(eqn: Equation) -> Cost:
    """A callback that receives the buffers of the device may do any work on them.

    It is listed as uncounted unless the user registers a rule. The bytes of its operands and results are counted.
    XLA: HandleCustomCall, -1 FLOP.
    """
    raise Foreign("passes device buffers to Python, which may do any work on them")


free(
    "create_token",
    "after_all",
    because="A token orders effects and holds no data. XLA: after-all, 0 FLOPs, 0 bytes.",
    traffic=no_traffic,
    traits=NO_TRAITS,
)
_KNOWN_SHAPE = "A shape is known when the program is compiled. XLA: a constant, or get-dimension-size, 0 FLOPs."
free(
    "dim_as_value",
    "dimension_size",
    because=_KNOWN_SHAPE,
    traffic=no_traffic,
    traits=GENERATOR,
)
free(
    "shape_assertion",
    because=_KNOWN_SHAPE,
    traffic=no_traffic,
    traits=NO_TRAITS,
)
free(
    "platform_index",
    because="The platform is known when the program is compiled. XLA: a constant, 0 FLOPs.",
    traffic=no_traffic,
    traits=GENERATOR,
)
_KNOWN_INDEX = (
    "A device knows its index in the mesh, and a kernel its index in the grid. "
    "XLA: partition-id and scalar arithmetic on it, or a register."
)
free(
    "program_id",
    "num_programs",
    because=_KNOWN_INDEX,
    traffic=no_traffic,
    traits=NO_TRAITS,
)
free(
    "axis_index",
    because=_KNOWN_INDEX,
    traffic=no_traffic,
    traits=GENERATOR,
)
