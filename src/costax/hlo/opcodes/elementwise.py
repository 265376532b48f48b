"""Elementwise opcodes: one FLOP, or one transcendental, per output element, whatever the dtype."""

from __future__ import annotations

from costax.hlo.cost_model import CostModel, Work, opcode
from costax.hlo.records import Instruction


@opcode(
    *("abs", "add", "and", "bitcast-convert", "ceil", "clamp", "compare", "complex", "convert"),
    *("count-leading-zeros", "divide", "floor", "imag", "is-finite", "maximum", "minimum", "mulhi", "multiply"),
    *("negate", "not", "or", "popcnt", "real", "reduce-precision", "remainder", "round-nearest-afz"),
    *("round-nearest-even", "select", "shift-left", "shift-right-arithmetic", "shift-right-logical", "sign"),
    *("stochastic-convert", "subtract", "xor"),
)
def elementwise(ins: Instruction, model: CostModel) -> Work:
    """One FLOP for each output element, also for converts, compares and selects: flops = |out|.

    XLA: HandleElementwiseOp.
    """
    return Work(flops=ins.shape.elements, bytes=model.default_bytes(ins))


@opcode(
    *("acos", "acosh", "asin", "asinh", "atan2", "atanh", "cbrt", "cosine", "cosh", "erf", "exp2", "exponential"),
    *("exponential-minus-one", "log", "log-plus-one", "log2", "logistic", "power", "rsqrt", "sine", "sinh", "sqrt"),
    *("tan", "tanh"),
)
def transcendental(ins: Instruction, model: CostModel) -> Work:
    """One transcendental for each output element, and no FLOPs.

    XLA: HandleElementwiseOp, its list of transcendental opcodes. `exp2` and `log2` are opcodes since jaxlib 0.12.
    """
    return Work(transcendentals=ins.shape.elements, bytes=model.default_bytes(ins))
