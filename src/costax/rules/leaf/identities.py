"""Identities: primitives that return their operand and carry information for jax or the compiler."""

from __future__ import annotations

from costax.rules.registry import free, no_traffic
from costax.rules.traits import IDENTITY, NO_TRAITS

free(
    "name",
    "stage",
    "stop_gradient",
    "consume",
    "assert_consumed_value",
    because="An identity that jax reads: differentiation, staging. XLA: no instruction.",
    traffic=no_traffic,
    traits=IDENTITY,
)
free(
    "optimization_barrier",
    "tie",
    "program_order",
    because="An identity that keeps the compiler from moving work across it. XLA: opt-barrier, 0 FLOPs; it counts its "
    "operands as read and written, although no byte moves.",
    traffic=no_traffic,
    traits=IDENTITY,
)
free(
    "dce_sink",
    "unreachable",
    because="A use of a value, or a value that is never computed: nothing runs. XLA: no instruction.",
    traffic=no_traffic,
    traits=NO_TRAITS,
)
free(
    "xla_metadata_value",
    "layout_constraint",
    "with_memory_space_constraint",
    "remove_memory_space",
    because="An identity that carries a hint for the compiler. XLA: an attribute, or a custom call that is removed.",
    traffic=no_traffic,
    traits=IDENTITY,
)
free(
    "multiple_of",
    "max_contiguous",
    because="A promise about the values of an index, inside a Pallas kernel. XLA: no instruction.",
    traffic=no_traffic,
    traits=IDENTITY,
)
