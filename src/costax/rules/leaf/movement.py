"""Movement: the same elements in another shape, order or place. No arithmetic, but every byte is carried."""

from __future__ import annotations

from costax.rules.registry import free, no_traffic

free(
    "broadcast_in_dim",
    "broadcast_to",
    "tile",
    "repeat",
    because="Elements are repeated, nothing is computed: the input is read and the output written. "
    "XLA: broadcast, 0 FLOPs.",
)
free(
    "reshape",
    "squeeze",
    because="The same elements under another shape, in memory of their own as long as nothing is fused. "
    "XLA: reshape, 0 FLOPs, reads and writes whole; after optimisation most become bitcasts, which cost nothing.",
)
free(
    "transpose",
    "rev",
    "copy",
    "roll",
    because="Every element goes to another place: the input is read and the output written. "
    "XLA: 0 FLOPs; a transpose that leaves the layout as it is costs no bytes either.",
)
free(
    "concatenate",
    "stack",
    "split",
    "unstack",
    "pad",
    because="Elements are put side by side, taken apart or surrounded: inputs are read and outputs written. "
    "XLA: concatenate, slice or pad, 0 FLOPs; padding goes by its whole output.",
)
free(
    "iota",
    "empty",
    "empty2",
    "thunky.inline_constant",
    "create_linear",
    because="The output is written without any input. XLA: iota or a broadcast constant, 0 FLOPs.",
)
free(
    "einshape_lo",
    "relayout",
    because="Axes are split, merged and permuted: the input is read and the output written. "
    "XLA: reshape and transpose, 0 FLOPs.",
)
free(
    "to_edtype",
    "from_edtype",
    because="The same bits under another type: nothing moves. XLA: no instruction.",
    traffic=no_traffic,
)
