"""Leaf primitives: what one equation costs. Importing this package registers the rules."""

from costax.leaves import (
    casts,
    collectives,
    contractions,
    convolutions,
    elementwise,
    host,
    indexing,
    kernels,
    markers,
    movement,
    reductions,
    sharding,
    state,
)

__all__ = [
    "casts",
    "collectives",
    "contractions",
    "convolutions",
    "elementwise",
    "host",
    "indexing",
    "kernels",
    "markers",
    "movement",
    "reductions",
    "sharding",
    "state",
]
