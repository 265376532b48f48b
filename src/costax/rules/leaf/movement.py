"""Movement: the same elements in another shape, order or place. No arithmetic, but every byte is carried."""

from __future__ import annotations

from costax.rules.registry import free, no_traffic
from costax.rules.traits import GENERATOR, MOVEMENT, VIEW, Function, Traits

free(
    "broadcast_in_dim",
    "broadcast_to",
    "tile",
    "repeat",
    because="Elements are repeated, nothing is computed: the input is read and the output written. "
    "XLA: broadcast, 0 FLOPs.",
    traits=MOVEMENT.but(repeats=True),
)
free(
    "reshape",
    "squeeze",
    because="The same elements under another shape, in memory of their own as long as nothing is fused. "
    "XLA: reshape, 0 FLOPs, reads and writes whole; after optimisation most become bitcasts, which cost nothing.",
    traits=VIEW.but(moves=True),
)
_OTHER_PLACE = (
    "Every element goes to another place: the input is read and the output written. "
    "XLA: 0 FLOPs; a transpose that leaves the layout as it is costs no bytes either."
)
free(
    "transpose",
    because=_OTHER_PLACE,
    traits=MOVEMENT.but(permutes=True),
)
free("rev", "roll", because=_OTHER_PLACE, traits=MOVEMENT)
free("copy", because=_OTHER_PLACE, traits=MOVEMENT.but(identity=True))
_SIDE_BY_SIDE = (
    "Elements are put side by side, taken apart or surrounded: inputs are read and outputs written. "
    "XLA: concatenate, slice or pad, 0 FLOPs; padding goes by its whole output."
)
free(
    "concatenate",
    because=_SIDE_BY_SIDE,
    traits=Traits(fuses=True, reads_once=True, operations=0.0),
)
free(
    "stack",
    because=_SIDE_BY_SIDE,
    traits=Traits(fuses=True, operations=0.0),
)
free(
    "split",
    "unstack",
    because=_SIDE_BY_SIDE,
    traits=MOVEMENT,
)
free(
    "pad",
    because=_SIDE_BY_SIDE,
    traits=Traits(fuses=True, reads_once=True, operations=0.0, function=Function.PAD),
)
_WRITTEN_ONLY = "The output is written without any input. XLA: iota or a broadcast constant, 0 FLOPs."
free(
    "iota",
    because=_WRITTEN_ONLY,
    traits=GENERATOR.but(operations=0.0),
)
free(
    "empty",
    "empty2",
    "thunky.inline_constant",
    "create_linear",
    because=_WRITTEN_ONLY,
    traits=GENERATOR,
)
free(
    "einshape_lo",
    "relayout",
    because="Axes are split, merged and permuted: the input is read and the output written. "
    "XLA: reshape and transpose, 0 FLOPs.",
    traits=MOVEMENT.but(permutes=True),
)
free(
    "to_edtype",
    "from_edtype",
    because="The same bits under another type: nothing moves. XLA: no instruction.",
    traffic=no_traffic,
    traits=VIEW,
)
