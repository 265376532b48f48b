"""The true cost of library calls: XLA counts a call as -1, but its target and configuration say what it computes.

Dots and convolutions of libraries count like XLA's own. Factorisations, transforms and sorts count as the rules of
`costax.rules.leaf` say, by the primitive that they implement. All numbers are in XLA's convention: every operation is a
FLOP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from costax.core.conventions import as_xla
from costax.core.cost import Cost
from costax.core.equation import Equation, Operand
from costax.hlo.cost_model import CostModel
from costax.hlo.opcodes.contractions import convolution_flops, dot_flops
from costax.hlo.records import DotDimensions, Instruction
from costax.hlo.replay import Properties
from costax.hlo.shapes import Shape
from costax.rules.lowered_names import routine_params, routine_primitive
from costax.rules.registry import REGISTRY

OpCounts = tuple[int, int]
"""FLOPs and transcendentals."""

# The value of jax's attention parameter `layout` for (batch, heads, positions, head size).
_HEADS_FIRST: Final = 1


def true_cost(ins: Instruction, model: CostModel) -> Properties | None:
    """Return the work of a library call; None for other instructions, and for calls whose work is unknown.

    bytes: every operand is read and every result is written, workspace included.
    """
    if is_idle(ins):
        return Properties()
    work = _work(ins, model)
    if work is None:
        return None
    shapes = [ins.shape, *[x.shape for x in ins.operands]]
    return Properties(*work, sum(model.size(leaf) for shape in shapes for leaf in shape.leaves()))


def is_opaque(ins: Instruction, model: CostModel) -> bool:
    """Say whether an instruction is a library call whose work is unknown."""
    return ins.opcode == "custom-call" and not is_idle(ins) and _work(ins, model) is None


def is_idle(ins: Instruction) -> bool:
    """Say whether an instruction is a call without arithmetic: it reserves memory, marks a place or moves indices."""
    return ins.opcode == "custom-call" and ins.custom_call_target in _IDLE


def _work(ins: Instruction, model: CostModel) -> OpCounts | None:
    if ins.opcode in ("fft", "sort"):
        return _by_rule(*_TRANSFORMS[ins.opcode](ins))
    if ins.opcode != "custom-call":
        return None
    target = ins.custom_call_target
    if routine := routine_primitive(target):
        return _by_rule(routine, ins, routine_params(_attributes(ins)))
    for pattern, read in _TARGETS:
        match = pattern.fullmatch(target)
        if match:
            return read(ins, match, model)
    return None


# cuBLAS.


def product_dimensions(ins: Instruction) -> DotDimensions | None:
    """Return the dimension numbers of a product that cuBLAS computes; None for another instruction."""
    dims = _json(ins).get("gemm_backend_config", {}).get("dot_dimension_numbers")
    if dims is None:
        return None
    return DotDimensions(
        *(
            tuple(map(int, dims.get(name, ())))
            for name in (
                "lhs_contracting_dimensions",
                "rhs_contracting_dimensions",
                "lhs_batch_dimensions",
                "rhs_batch_dimensions",
            )
        )
    )


def product_precision(ins: Instruction) -> tuple[tuple[str, ...], str]:
    """Return the precision of each operand and the algorithm of a library's product, by XLA's names; "" if unset."""
    config = _json(ins).get("gemm_backend_config", {}).get("precision_config", {})
    algorithm = str(config.get("algorithm", "")).removeprefix("ALG_").removeprefix("DOT_")
    return tuple(map(str, config.get("operand_precision", ()))), "" if algorithm == "UNSET" else algorithm


def _cublas(ins: Instruction, _: re.Match[str], model: CostModel) -> OpCounts | None:
    """Two FLOPs for each multiply-accumulate, and the epilogue's work for each element of the result.

    For alpha A B + beta C, each element has one more FLOP if alpha is not 1, one if C is added, and one if beta is
    neither 0 nor 1.
    """
    config = _json(ins).get("gemm_backend_config", {})
    numbers = product_dimensions(ins)
    if numbers is None:
        return None
    out = ins.shape.first().elements
    alpha, beta = float(config.get("alpha_real", 1)), float(config.get("beta", 0))
    scaling = (alpha != 1 or float(config.get("alpha_imag", 0)) != 0) + (beta != 0) + (beta not in (0, 1))
    flops, transcendentals = _epilogue(str(config.get("epilogue", "DEFAULT")))
    product = dot_flops(ins.operand(0).shape, out, numbers)
    return product + (scaling + flops) * out, transcendentals * out


def _epilogue(name: str) -> OpCounts:
    """Return the work for each element: + bias, max(0, x), x * sigmoid(x), 0.5 x (1 + tanh(c (x + 0.044715 x^3)))."""
    flops = "BIAS" in name
    if "GELU" in name:
        return flops + 8, 1
    if "SILU" in name:
        return flops + 3, 1
    return flops + ("RELU" in name), 0


# cuDNN.


def _cudnn_convolution(ins: Instruction, match: re.Match[str], model: CostModel) -> OpCounts:
    """Two FLOPs for each valid tap, as XLA counts a convolution; a gradient has the taps of its forward convolution.

    Activation, bias, scale and side input are one FLOP each for each element of the result.
    """
    first, second, result = ins.operand(0).shape, ins.operand(1).shape, ins.shape.first()
    lhs, rhs, out = {
        "BackwardInput": (result, second, first),
        "BackwardFilter": (first, result, second),
    }.get(match[1], (first, second, result))
    config = _json(ins).get("cudnn_conv_backend_config", {})
    extra = "Bias" in match[1]
    extra += config.get("activation_mode", "kNone") not in ("kNone", "kIdentity") and "Activation" in match[1]
    extra += float(config.get("conv_result_scale", 1)) != 1
    side = float(config.get("side_input_scale", 0))
    extra += (side != 0) + (side not in (0, 1))
    return convolution_flops(ins, lhs, rhs, out, model) + extra * result.elements, 0


def _cudnn_attention(ins: Instruction, match: re.Match[str], model: CostModel) -> OpCounts | None:
    """Fused attention, as the rule of jax's primitive counts it; the configuration holds the shape of the scores."""
    config = _json(ins).get("cudnn_fmha_backend_config", {})
    extents = [int(extent) for extent in config.get("intermediate_tensor_shape", {}).get("dimensions", ())]
    if len(extents) != 4 or len(ins.operands) < 3:
        return None
    *rows, keys = extents
    # The order of batch, heads and positions in memory varies; the head size is always last.
    query, value = ins.operand(0).shape, ins.operand(2).shape
    inputs = tuple(
        Operand((*before, size), query.dtype)
        for before, size in (
            (rows, query.dims[-1]),
            ((*rows[:2], keys), query.dims[-1]),
            ((*rows[:2], keys), value.dims[-1]),
        )
    )
    masked = config.get("mask_type", "NO_MASK") != "NO_MASK"
    params = {
        "layout": _HEADS_FIRST,
        "variadic_args": ("ScaleBias" in match[0], False),
        "mask_type": masked,
        "use_causal_mask": masked,
        "sliding_window_length": 0,
        "dropout_rate": "Dropout" in match[0],
    }
    name = f"dot_product_attention{'_fp8' if 'F8' in match[0] else ''}_{'bwd' if 'Backward' in match[0] else 'fwd'}"
    # The last result is the workspace.
    return _counted(Equation(name, inputs, tuple(map(_operand, ins.shape.arrays()))[:-1], params))


# LAPACK, cuSOLVER, cuSPARSE.


def _triangular_solve(ins: Instruction, _: re.Match[str], model: CostModel) -> OpCounts | None:
    return _by_rule("triangular_solve", ins, {"unit_diagonal": bool(_json(ins).get("unit_diagonal"))})


# Custom calls of XLA:TPU that factorise one block of a matrix.
_BLOCKS: Final[Mapping[str, str]] = {
    "Cholesky": "cholesky",
    "LuDecompositionBlock": "lu",
    "QrDecompositionBlock": "geqrf",
}


def _block(ins: Instruction, match: re.Match[str], model: CostModel) -> OpCounts | None:
    return _by_rule(_BLOCKS[match[0]], ins, {})


def _factorised(ins: Instruction, _: re.Match[str], model: CostModel) -> OpCounts | None:
    return _by_rule("cholesky", ins, {})


# Top-k, sorts and transforms.


def _top_k(ins: Instruction, _: re.Match[str], model: CostModel) -> OpCounts | None:
    return _by_rule("top_k", ins, {"k": ins.shape.first().dims[-1]})


def _radix_sort(ins: Instruction, _: re.Match[str], model: CostModel) -> OpCounts | None:
    return _by_rule("sort", ins, {"dimension": len(ins.operand(0).shape.dims) - 1})


_TRANSFORMS: Final[Mapping[str, Callable[[Instruction], tuple[str, Instruction, Mapping[str, Any]]]]] = {
    "fft": lambda ins: ("fft", ins, {"fft_lengths": ins.fft_length, "fft_type": ins.fft_type}),
    "sort": lambda ins: ("sort", ins, {"dimension": ins.dimensions[0]}),
}


# Kernels of the user.


def _kernel(ins: Instruction, _: re.Match[str], model: CostModel) -> OpCounts | None:
    """The work of a Pallas kernel, as its `cost_estimate` says; unknown without one."""
    estimate = ins.cost_estimate
    return None if estimate is None else estimate[:2]


_Reader = Callable[[Instruction, re.Match[str], CostModel], OpCounts | None]
_TARGETS: Final[Sequence[tuple[re.Pattern[str], _Reader]]] = tuple(
    (re.compile(pattern), read)
    for pattern, read in (
        (r"__cublas\$(?:lt\$matmul.*|gemm)", _cublas),
        (r"__cudnn\$conv(.*)", _cudnn_convolution),
        (r"__cudnn\$fmha.*", _cudnn_attention),
        (r"__(?:cublas|onednn)\$triangularSolve", _triangular_solve),
        (r"__cusolver\$cholesky", _factorised),
        ("|".join(_BLOCKS), _block),
        (r"TopK|__gpu\$TopK", _top_k),
        (r"__cub\$DeviceRadixSort", _radix_sort),
        (r"tpu_custom_call", _kernel),
    )
)
# Calls that reserve memory, mark a place, permute indices, or split and join the halves of 64-bit numbers.
_IDLE: Final = frozenset(
    {
        *(
            "AllocateBuffer",
            "ConcatBitcast",
            "Sharding",
            "SPMDFullToShardShape",
            "SPMDShardToFullShape",
            "X64Combine",
            "X64SplitHigh",
            "X64SplitLow",
            "annotate_device_placement",
        ),
        *("cu_lu_pivots_to_permutation", "__xla_internal_call_marker_before", "__xla_internal_call_marker_after"),
    }
)


def _by_rule(name: str, ins: Instruction, params: Mapping[str, Any]) -> OpCounts | None:
    inputs = tuple(_operand(x.shape) for x in ins.operands)
    return _counted(Equation(name, inputs, tuple(map(_operand, ins.shape.arrays())), params))


def _counted(eqn: Equation) -> OpCounts | None:
    """Return the cost that the rule of a primitive gives, in XLA's convention; None without a rule."""
    rule = REGISTRY.get(eqn.name)
    cost = rule.function(eqn) if rule else None
    return as_xla(cost) if isinstance(cost, Cost) else None


def _operand(shape: Shape) -> Operand:
    return Operand(shape.dims, shape.dtype)


def _json(ins: Instruction) -> dict[str, Any]:
    try:
        parsed: Any = json.loads(ins.backend_config or b"{}")
    except ValueError:
        return {}
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}


def _attributes(ins: Instruction) -> dict[str, int]:
    """Return the integers and booleans of a configuration in MLIR's text: `{left = true, mode = 83 : ui8}`."""
    pairs = re.findall(rb"(\w+) = (true|false|-?\d{1,18})\b", ins.backend_config)
    words = {b"true": 1, b"false": 0}
    return {name.decode(): words[value] if value in words else int(value) for name, value in pairs}
