"""Programs that every device of a mesh runs on its own shard."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from costax.core.equation import Body, Equation
from costax.rules.registry import body_rule


@body_rule("shard_map")
def shard_map(eqn: Equation) -> Sequence[Body]:
    """Every device runs the body on its shard. The total is that of the whole mesh, `per_device` that of one device.

    The shapes in the body are those of a shard along the manual axes, so it runs once for each point of these axes.
    XLA: Lowered counts the body once, and -1 for each call that marks a change of sharding; Compiled is per device.
    """
    sizes = dict(eqn.params["mesh"].shape)
    manual = {axis: sizes[axis] for axis in sizes if axis in eqn.params["manual_axes"]}
    inputs = tuple(range(len(eqn.inputs)))
    return [Body(eqn.params["jaxpr"], prod(manual.values()), "shard", inputs, per_device=True, axis_sizes=manual)]


@body_rule("xla_pmap")
def xla_pmap(eqn: Equation) -> Sequence[Body]:
    """Every device of a `pmap` runs the body on its slice (jax before 0.9); the total is that of all devices.

    XLA: compiled for one device, whose cost is the one reported.
    """
    name, size = eqn.params["axis_name"], eqn.params["global_axis_size"]
    return [Body(eqn.params["call_jaxpr"], size, "shard", per_device=True, axis_sizes={name: size})]
