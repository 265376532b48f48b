"""Callbacks and foreign functions, tokens, and values that are known when a program is compiled."""

from __future__ import annotations

from costax.core.cost import Cost
from costax.core.equation import Equation
from costax.errors import Uncountable
from costax.rules.registry import cost_rule, free, no_traffic
from costax.rules.traits import GENERATOR, NO_TRAITS, OPAQUE

free(
    "pure_callback",
    "io_callback",
    "debug_callback",
    "debug_print",
    "check",
    because="Python runs it on the host, outside of the program: the device only sends the operands and receives the "
    "results, whose bytes are counted. XLA: a custom call, -1 FLOP.",
    traits=NO_TRAITS,
)


@cost_rule("ffi_call", traits=OPAQUE)
def ffi_call(eqn: Equation) -> Cost:
    """The cost of a foreign function is not in the program; only its author knows it.

    It is listed as uncounted, with the name of its target, unless the user registers a rule with
    `@costax.cost_rule("ffi_call", override=True)`, which reads `eqn.params["target_name"]`.
    XLA: HandleCustomCall, -1 FLOP.
    """
    raise Uncountable(
        f"calls the foreign function {eqn.params.get('target_name', '')!r}, whose work only its author knows"
    )


@cost_rule("buffer_callback", traits=NO_TRAITS)
def buffer_callback(eqn: Equation) -> Cost:
    """A callback that receives the buffers of the device may do any work on them.

    It is listed as uncounted unless the user registers a rule.
    XLA: HandleCustomCall, -1 FLOP.
    """
    raise Uncountable("passes device buffers to Python, which may do any work on them")


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
