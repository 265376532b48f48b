"""Movement: the same elements in another shape, order or position. No arithmetic, but every byte is moved."""

from __future__ import annotations

from costax.rules.registry import free, no_traffic
from costax.rules.traits import GENERATOR, MOVEMENT, VIEW, Function, Traits

free(
    "broadcast_in_dim",
    "broadcast_to",
    "tile",
    "repeat",
    because="Elements are repeated, without arithmetic: the input is read and the output written. "
    "XLA: broadcast, 0 FLOPs.",
    traits=MOVEMENT.but(repeats=True),
)
free(
    "reshape",
    "squeeze",
    because="The same elements in another shape. Without fusion they are copied to a buffer of their own. "
    "XLA: reshape, 0 FLOPs, reads and writes all bytes; after optimisation most become bitcasts, which cost nothing.",
    traits=VIEW.but(moves=True),
)
_OTHER_ORDER = (
    "Every element is moved to another position: the input is read and the output written. "
    "XLA: 0 FLOPs; a transpose that does not change the layout costs no bytes either."
)
free(
    "transpose",
    because=_OTHER_ORDER,
    traits=MOVEMENT.but(permutes=True),
)
free("rev", "roll", because=_OTHER_ORDER, traits=MOVEMENT)
free("copy", because=_OTHER_ORDER, traits=MOVEMENT.but(identity=True))
_SIDE_BY_SIDE = (
    "Arrays are concatenated, split or padded: inputs are read and outputs written. "
    "XLA: concatenate, slice or pad, 0 FLOPs; a pad counts its whole output."
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
    because="The same bits under another type; no byte moves. XLA: no instruction.",
    traffic=no_traffic,
    traits=VIEW,
)
