"""Leaf primitives: what one equation costs. Importing this package registers the rules."""

from costax.leaves import contractions, convolutions

__all__ = ["contractions", "convolutions"]
