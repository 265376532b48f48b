"""Leaf primitives: what one equation costs. Importing this package registers the rules."""

from costax.leaves import contractions, convolutions, indexing, markers, movement, sharding

__all__ = ["contractions", "convolutions", "indexing", "markers", "movement", "sharding"]
