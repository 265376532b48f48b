"""Sharding annotations. Collectives that the partitioner adds are part of the compiled program, not of the jaxpr."""

from __future__ import annotations

from costax.core.cost import Count
from costax.core.equation import Equation
from costax.rules.registry import free, no_traffic, whole_operands
from costax.rules.traits import IDENTITY, NO_TRAITS


def moved(eqn: Equation) -> tuple[Count, Count]:
    """All bytes move if a device or a memory is named, else none."""
    is_named = any(device is not None for device in eqn.params.get("devices", ()))
    return whole_operands(eqn) if is_named else (0, 0)


_ANNOTATION = (
    "An annotation. The partitioner decides during compilation which bytes it sends. "
    "XLA: a custom call, -1 in Lowered; collectives in Compiled."
)
free(
    "sharding_constraint",
    "reshard",
    "shard_alike",
    "full_to_shard",
    "shard_to_full",
    "host_local_array_to_global_array",
    "global_array_to_host_local_array",
    because=_ANNOTATION,
    traffic=no_traffic,
    traits=IDENTITY,
)
free(
    "inspect_sharding",
    because=_ANNOTATION,
    traffic=no_traffic,
    traits=NO_TRAITS,
)
free(
    "pvary",
    "preduced",
    "reduced_vary_cast",
    "reduced_vary_cast_p",
    "vary_unreduced_cast",
    "vary_unreduced_cast_p",
    because="The same values under another type of variation over mesh axes. XLA: no instruction.",
    traffic=no_traffic,
    traits=IDENTITY,
)
free(
    "device_put",
    because="A copy if a device or a memory is named, else an identity. XLA: an annotation, or no instruction.",
    traffic=moved,
    traits=IDENTITY,
)
