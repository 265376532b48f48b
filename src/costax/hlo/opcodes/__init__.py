"""XLA's law, one small function an opcode. Importing this package registers all of them.

Source: HloCostAnalysis (`xla/service/hlo_cost_analysis.cc`); every docstring names the handler. The dtype never
matters for the flops: an int8 add, a complex multiply and a bool and are 1 per element each.
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
