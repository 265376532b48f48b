"""The words that costax prints, each explained in a sentence or two; `costax explain TERM` and the docs show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TERMS: Final[Mapping[str, str]] = {
    "MAC": "One multiply-accumulate of a matrix product or a convolution. A MAC is 2 FLOPs.",
    "FLOP": "One floating-point add, subtract, multiply, divide, negate, minimum or maximum. FLOPs is the plural; a "
    "rate is FLOP/s.",
    "OP": "One elementary operation on any dtype: FLOPs, transcendentals, and operations on integers and booleans.",
    "transcendental": "One exp, log, tanh, erf, pow, sqrt, sin ... of one element. Not counted as a FLOP, as in XLA.",
    "products with padding": "The part of a convolution's MACs that multiplies zeros of the padding. costax counts "
    "them, as papers do; XLA skips them.",
    "framework peak": "The largest sum of arrays alive at one time if every operation writes its result to memory: the "
    "memory without a compiler.",
    "fused estimate": "The memory that the compiled program is expected to need: chains of elementwise operations are "
    "computed together, and their intermediate arrays do not exist.",
    "(own)": "The work of a layer outside of the layers inside it, so that the lines below a layer add up to it.",
    "(no scope)": "Work outside of all layers and named scopes.",
    "compulsory": "Traffic: the bytes of the program's inputs and outputs, each moved once. No program moves fewer.",
    "unfused": "Traffic: the bytes that all operations read and write if each of them goes to memory.",
    "fused": "Traffic: the bytes that the kernels read and write, where a kernel computes several operations together.",
    "ridge": "The FLOPs per byte at which a device's arithmetic and its memory take the same time. Below it a program "
    "is bound by memory.",
    "MFU": "Model FLOPs utilisation: the FLOPs of the model per second, without recomputed work, over the device's "
    "peak.",
    "HFU": "Hardware FLOPs utilisation: the FLOPs that run per second, recomputed work included, over the device's "
    "peak.",
    "scope": "The path of an operation in the program, such as decoder/layer_3/attention: from modules and "
    "jax.named_scope.",
    "kernel": "A part of the program that the device runs at once, such as a fusion of XLA or one matrix product.",
    "saved residuals": "Arrays that the forward pass keeps for the backward pass.",
    "exact": "Every count is a number or a formula of the program itself: nothing is estimated, assumed or left out.",
}

ALIASES: Final[Mapping[str, str]] = {
    "attention": "dot_general",
    "conv": "conv_general_dilated",
    "convolution": "conv_general_dilated",
    "dense": "dot_general",
    "dot": "dot_general",
    "einsum": "dot_general",
    "linear": "dot_general",
    "matmul": "dot_general",
    "relu": "max",
    "softmax": "exp",
    "sum": "reduce_sum",
    "tensordot": "dot_general",
}
"""What people call an operation, and the primitive that does its work."""


def term(name: str) -> str | None:
    """Return the name of a term as it is printed, from any spelling of it; None if there is no such term.

    >>> term("flops"), term("own"), term("Framework Peak"), term("nothing")
    ('FLOP', '(own)', 'framework peak', None)
    """
    wanted = _plain(name)
    return next((known for known in TERMS if wanted in (_plain(known), f"{_plain(known)}s")), None)


def primitive(name: str) -> str | None:
    """Return the primitive that does the work of an operation such as `jnp.einsum`; None if it has no other name.

    >>> primitive("conv"), primitive("jnp.einsum"), primitive("jax.nn.softmax"), primitive("add")
    ('conv_general_dilated', 'dot_general', 'exp', None)
    """
    return ALIASES.get(name.lower().rpartition(".")[2])


def _plain(name: str) -> str:
    return " ".join(name.lower().strip("()").replace("_", " ").replace("-", " ").split())
