"""XLA's cost of each opcode, one small function (a handler) for each. Importing this package registers all of them.

Source: HloCostAnalysis (`xla/service/hlo_cost_analysis.cc`); every docstring names XLA's handler. The FLOPs do not
depend on the dtype: an addition of int8, a multiplication of complex numbers and a logical `and` are 1 per element.
"""

from costax.hlo.cost_model import handler, opcodes
from costax.hlo.opcodes import (
    collectives,
    contractions,
    control,
    elementwise,
    free,
    fusions,
    linalg,
    movement,
    random,
    reductions,
    slices,
)

__all__ = [
    "collectives",
    "contractions",
    "control",
    "elementwise",
    "free",
    "fusions",
    "handler",
    "linalg",
    "movement",
    "opcodes",
    "random",
    "reductions",
    "slices",
]
