"""Realistic programs of kinds that `sample.py` lacks, written before the memory models of the TPU and the CPU."""

from kinds import (
    fresh,
    fresh_second,
    layers,
    models,
    numerics,
    sequences,
    sharded,
    training,
    unseen_learning,
    unseen_science,
)
from kinds.registry import PROGRAMS

__all__ = [
    "PROGRAMS",
    "fresh",
    "fresh_second",
    "layers",
    "models",
    "numerics",
    "sequences",
    "sharded",
    "training",
    "unseen_learning",
    "unseen_science",
]
