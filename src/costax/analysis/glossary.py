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
    "jaxpr": "The program as jax traces it: a list of equations, before any compiler. Its counts are those of costax.",
    "StableHLO": "The program as jax hands it to XLA, which converts it to HLO and optimises that.",
    "primitive": "The operation of an equation of a jaxpr, such as dot_general. `costax rules` lists them.",
    "equation": "One operation of a jaxpr with its inputs and outputs. `eqns` is how many of them, or of XLA's "
    "instructions, a line stands for.",
    "instruction": "One operation of an HLO module; its kind is the opcode. Beside a pass, `gone`, `new` and `changed` "
    "count the instructions that it removed, added, and gave another cost.",
    "params": "The parameters of a layer, in elements: arrays that are trained, such as weights.",
    "program": "In a table of devices that share the work: what the program costs if nothing is computed twice. "
    "Beside it stands what all devices compute together, and the equations computed more than once.",
    "predicted": "Seconds from the model of a device, by `costax predict`; measured seconds are from a run.",
    "times": "How many events an instruction has in a profile; in all is the time of all runs on all devices.",
    "dtype": "The type of the elements of an array: f32, bf16, s8 ...",
    "module": "A layer as the framework has it, such as a flax module; or an HLO module, the program as XLA has it.",
    "traffic": "Bytes read and written. In the tables of an analysis it is the unfused traffic: every operation goes "
    "to memory. A prediction counts the fused traffic of kernels.",
    "share": "A column in percent, such as % FLOPs: the line's part of the total.",
    "type": "The class of the module that a layer is.",
    "output": "The dtype and the shape of what a layer returns.",
    "direction": "The part of a training step that work belongs to: forward, backward, recompute or update.",
    "source": "The file and line of the program that made an operation, or the document that a figure is from.",
    "temporaries": "Memory for arrays that are neither arguments nor results, at the time when a program needs most.",
    "padding": "In a count, products with padding; in a memory, bytes that lie unused between arrays, because they are "
    "aligned or do not fill a gap.",
    "array": "The dtype and the shape of a buffer. Beside it stands why it is alive at the peak.",
    "activations": "The elements of intermediate results, by three definitions. mit: the input of the network and the "
    "output of each layer (MIT 6.5940, lecture 2). contractions: the outputs of products and convolutions, as fvcore "
    "and timm count. all: every result of an equation.",
    "model size": "The size of the parameters as they are stored, or if all were stored in another dtype; 1 MB is 10^6 "
    "bytes.",
    "too close to say": "The answer of `costax fits` where the least that a program may need fits the memory of the "
    "device, and the most does not. The compiler decides: --xla asks it.",
    "convention": "What a tool or a paper counts, and for how much. `costax analyze --as NAME` shows the number of a "
    "convention and why it differs from that of costax; `costax mfu` shows the MFU by each.",
    "model FLOPs": "FLOPs of a step without those that the backward pass computes again. The numerator of MFU.",
    "hardware FLOPs": "FLOPs of a step as the program executes them, recomputed work included. The numerator of HFU.",
    "peak": "The most FLOP/s of a device in one unit, such as fp32, bf16, fp8 or int8; `costax devices` lists them in "
    "units of 10^12. For memory see framework peak.",
    "tf32": "A unit of NVIDIA's GPUs that multiplies float32 matrices with 10 bits of mantissa. A float32 product is "
    'predicted to run there, unless its precision is "highest".',
    "bandwidth": "The bytes per second between a device and its memory; GB/s are 10^9 bytes per second. GiB are 2^30 "
    "bytes of memory.",
    "link": "The connection over which devices send to each other; in a list of devices, what one sends in GB/s.",
    "W": "Watts: the power that a device is allowed to draw.",
    "bound by": "What takes most of the time of a kernel: a unit that computes, the memory, the link, a library call.",
    "runs": "How often a kernel or a collective runs in one call of the program. `per run` is the time of one run.",
    "FLOPs/B": "FLOPs per byte that a kernel reads or writes. Compare it with the ridge of the device.",
    "roofline": "The least time that the peak and the bandwidth of a device allow, as a share of the measured time.",
    "collective": "An operation in which several devices exchange data, such as an all-reduce. `sent` is what one "
    "device sends.",
    "mesh axes": "The axes of the mesh over whose devices a collective works.",
    "exposed": "The part of the time of a collective for which the device waits; computation between its start and its "
    "end hides the rest.",
    "dispatch": "The time to start a program, of each argument, and of waking threads, before the first kernel.",
    "counted": "In an HLO module: as XLA counts, a loop body once. Executed counts it as often as it runs.",
    "pass": "One step of a compiler, such as algsimp or fusion. `costax explain NAME` says what a pass of XLA does.",
    "ratio": "After divided by before. In a diff each count has three columns: before, after, and their ratio or "
    "change.",
    "free": "A primitive that has no cost, such as a reshape: its rule says why.",
    "leading term": "The highest power of a symbol in a formula. dominates_from is the least value of the symbol from "
    "which this term is at least the sum of all others.",
    "counted by another convention": "Cause of a difference from XLA: for the same equation XLA has another rule, such "
    "as comparisons and integers as FLOPs.",
    "loop body counted once": "Cause of a difference from XLA: it counts the body of a loop once, costax as often as "
    "it runs.",
    "one device's share": "Cause of a difference from XLA: it counts the work of one device, costax that of all.",
    "branch maximum": "Cause of a difference from XLA: of the branches of a conditional it counts the one with most "
    "work.",
    "expanded into several operations": "Cause of a difference from XLA: jax lowers the equation to other operations, "
    "and XLA counts those.",
    "known defect of XLA's count": "Cause of a difference from XLA: its count of an operation is wrong in a way that "
    "is known; the line says how.",
    "library call reported as -1": "Cause of a difference from XLA: it reports -1 FLOP for a call of a library, whose "
    "work it does not know.",
    "loop control": "Cause of a difference from XLA: it counts the counter and the condition around the body of a "
    "loop.",
    "folded in the conversion to HLO": "Cause of a difference from XLA: constants, dead code and repeated operations "
    "that are gone when StableHLO becomes HLO.",
    "changed by the compiler": "Cause of a difference from XLA: an optimisation changed the work; no pass is named.",
    "float32 rounding": "Cause of a difference from XLA: it adds its counts in float32, which rounds large sums.",
    "unexplained": "A difference from XLA whose cause costax could not read. It is shown in red; --strict ends with 1.",
}

SPELLINGS: Final[Mapping[str, str]] = {
    "transc.": "transcendental",
    "transc. change": "transcendental",
    "all devices": "program",
    "equations computed more than once": "program",
    "measured": "predicted",
    "predicted / measured": "predicted",
    "in all": "times",
    "in the program": "collective",
    "change": "ratio",
    "eqns": "equation",
    "gone": "instruction",
    "new": "instruction",
    "changed": "instruction",
    "opcode": "instruction",
    "lowered": "StableHLO",
    "parameters": "params",
    "unfused traffic": "unfused",
    "fused traffic": "fused",
    "compulsory traffic": "compulsory",
    "bytes": "traffic",
    "written": "traffic",
    "read": "traffic",
    "B/s": "traffic",
    "FLOP/s": "FLOP",
    "% FLOPs": "share",
    "% OPs": "share",
    "% traffic": "share",
    "%": "share",
    "layer": "scope",
    "(no module)": "(no scope)",
    "line": "source",
    "alive because": "array",
    "mit": "activations",
    "contractions": "activations",
    "saved residual": "saved residuals",
    "model": "model FLOPs",
    "hardware": "hardware FLOPs",
    "against all FLOPs of the program": "hardware FLOPs",
    "FLOPs a step": "model FLOPs",
    "FLOPs a step, all devices": "model FLOPs",
    "FLOPs a token": "model FLOPs",
    "FLOP/s a device": "MFU",
    "temp": "temporaries",
    "fp64": "peak",
    "fp32": "peak",
    "bf16": "peak",
    "fp16": "peak",
    "fp8": "peak",
    "int8": "peak",
    "GiB": "bandwidth",
    "GB/s": "bandwidth",
    "sent": "collective",
    "computation between": "exposed",
    "per run": "runs",
    "executed": "counted",
    "executed FLOPs": "counted",
    "before": "ratio",
    "after": "ratio",
    "why it is free": "free",
    "dominates_from": "leading term",
    "dominates from": "leading term",
    "unsure": "too close to say",
}
"""Other spellings and headings of columns, and the term that explains them."""

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

    >>> term("flops"), term("own"), term("Framework Peak"), term("transc."), term("nothing")
    ('FLOP', '(own)', 'framework peak', 'transcendental', None)
    """
    wanted = _plain(name)
    found = next((known for known in (*TERMS, *SPELLINGS) if wanted in (_plain(known), f"{_plain(known)}s")), None)
    return SPELLINGS.get(found, found) if found is not None else None


def primitive(name: str) -> str | None:
    """Return the primitive that does the work of an operation such as `jnp.einsum`; None if it has no other name.

    >>> primitive("conv"), primitive("jnp.einsum"), primitive("jax.nn.softmax"), primitive("add")
    ('conv_general_dilated', 'dot_general', 'exp', None)
    """
    return ALIASES.get(name.lower().rpartition(".")[2])


def _plain(name: str) -> str:
    # Only the words count: `unfused (traffic)` is `unfused traffic`.
    return " ".join(name.lower().replace("(", " ").replace(")", " ").replace("_", " ").replace("-", " ").split())
