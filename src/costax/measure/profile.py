"""Profile: the measured time of a run by scope, next to the predicted time of the same scopes.

jax.profiler measures the seconds of each HLO instruction. The metadata of an instruction has the name of its equation,
whose first parts are the scope path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from costax import _jax
from costax.analysis.analysis import Analysis
from costax.hlo.read import read_bytes
from costax.performance.prediction import Prediction

# Names that jax adds to a scope path: transformations around a scope, and control flow between scopes.
_WRAPPED: Final = re.compile(r"(?:jvp|transpose|vmap|linearize|custom_jvp|custom_vjp)\((.*)\)")
_CONTROL: Final = re.compile(
    r"jit\(.*|pjit\(.*|while|body|cond|closed_call|checkpoint|branch_\d+_fun|rematted_computation|shard_map|~|.*->.*|"
)
_HOLDS_OTHERS: Final = frozenset({"while", "conditional", "call"})


@dataclass(frozen=True)
class Profile:
    """The seconds of one run by HLO instruction, and the scope of each instruction. runs: how many were profiled."""

    seconds: Mapping[str, float] = field(repr=False)
    scopes: Mapping[str, str] = field(repr=False)
    runs: int = 1

    @property
    def total(self) -> float:
        """The sum of the seconds of all instructions; instructions that run at the same time all count."""
        return sum(self.seconds.values())

    def by_scope(self, depth: int | None = None) -> dict[str, float]:
        """Return the seconds of each scope path of at most `depth` parts."""
        sums: dict[str, float] = {}
        for name, seconds in self.seconds.items():
            scope = "/".join(self.scopes.get(name, "").split("/")[:depth])
            sums[scope] = sums.get(scope, 0.0) + seconds
        return sums

    def beside(self, prediction: Prediction, depth: int | None = None) -> list[tuple[str, float, float]]:
        """Return (scope, measured seconds, predicted seconds) of all scopes of both, the longest first."""
        measured, predicted = self.by_scope(depth), prediction.by_scope(depth)
        scopes = dict.fromkeys([*measured, *predicted])
        rows = [(scope, measured.get(scope, 0.0), predicted.get(scope, 0.0)) for scope in scopes]
        return sorted(rows, key=lambda row: -max(row[1:]))


def profiled(analysis: Analysis, values: Sequence[Any], runs: int = 3) -> Profile:
    """Run the program of an analysis under jax's profiler and return the seconds of its instructions."""
    program = analysis.program
    executable = _jax.Executable(program.traced, program.jaxpr)
    inputs = list(values)[len(values) - executable.arguments :]

    def arguments() -> list[Any]:
        return _jax.block_until_ready(
            [_jax.copy_of(x) if donated else x for x, donated in zip(inputs, executable.donated, strict=True)]
        )

    _jax.block_until_ready(executable(arguments()))
    copies = [arguments() for _ in range(runs)]

    def run() -> None:
        for copy in copies:
            _jax.block_until_ready(executable(copy))

    scopes, holding = _scopes(executable)
    seconds: dict[str, float] = {}
    for name, took in _jax.profile(run):
        if name not in holding:
            seconds[name] = seconds.get(name, 0.0) + took / runs
    return Profile(seconds, scopes, runs)


def _scopes(executable: _jax.Executable) -> tuple[dict[str, str], set[str]]:
    """Return the scope of each instruction, and the names of instructions that contain others, such as `while`.

    Their time is the time of the instructions inside, which is counted already.
    """
    scopes: dict[str, str] = {}
    holding: set[str] = set()
    for computation in read_bytes(executable.hlo).computations.values():
        for ins in computation.instructions:
            scopes[ins.name] = scope_of(ins.op_name)
            if ins.opcode in _HOLDS_OTHERS:
                holding.add(ins.name)
    return scopes, holding


def scope_of(name: str) -> str:
    """Return the scope path in the `op_name` of an instruction, without the primitive.

    >>> scope_of("jit(step)/transpose(jvp(ResNet))/layer1_0/conv1/conv_general_dilated")
    'ResNet/layer1_0/conv1'
    """
    parts: list[str] = []
    for part in _split(name)[:-1]:
        while match := _WRAPPED.fullmatch(part):
            part = match[1]
        # A wrapper may contain several names, `jvp(encoder/layer_0)`, or none, `jvp()`.
        parts += [piece for piece in part.split("/") if not _CONTROL.fullmatch(piece)]
    return "/".join(parts)


def _split(name: str) -> list[str]:
    """Split a name at the slashes outside of parentheses."""
    parts, depth = [""], 0
    for character in name:
        depth += (character == "(") - (character == ")")
        if character == "/" and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts
