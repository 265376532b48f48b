"""Leaf primitives: what one equation costs. Importing this package registers the rules."""

from costax.leaves import (
    casts,
    contractions,
    convolutions,
    elementwise,
    indexing,
    markers,
    movement,
    reductions,
    sharding,
)

__all__ = [
    "casts",
    "contractions",
    "convolutions",
    "elementwise",
    "indexing",
    "markers",
    "movement",
    "reductions",
    "sharding",
]
