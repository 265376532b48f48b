"""What if: operations, sizes, traffic and time of a program under quantisation and pruning, without touching it.

Contractions with a parameter are told from those of two activations by following the parameters through the program.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from costax.analysis.model_size import model_size, width
from costax.core import units
from costax.core.cost import Count
from costax.core.display import Displayed
from costax.errors import InputError
from costax.performance.hardware import Device
from costax.performance.kernels import Kernel

if TYPE_CHECKING:
    from costax.analysis.counts import Counts
    from costax.performance.prediction import Prediction
    from costax.performance.protocols import MemoryUse

# What a scheme is called as the dtype of an operand.
_DTYPES: Final[Mapping[str, str]] = {
    "fp32": "f32",
    "f32": "f32",
    "bf16": "bf16",
    "fp16": "f16",
    "f16": "f16",
    "fp8": "f8_e4m3fn",
    "int8": "i8",
    "int4": "i4",
}


@dataclass(frozen=True)
class WhatIf(Displayed):
    """A program as it would be; `analysis` is the one that is.

    weights, activations: the schemes that parameters and other floating arrays are stored in; None for their own.
    sparsity: by scope pattern the share of the weights that are zero. fuse_multiply_add: count a multiply-accumulate
    as one operation and not as two.
    """

    analysis: Counts
    weights: str | None = None
    activations: str | None = None
    sparsity: Mapping[str, float] | None = None
    fuse_multiply_add: bool = False

    @property
    def groups(self) -> list[Kernel]:
        """The old name of `kernels()`."""
        warnings.warn("`groups` is now called `kernels()`.", DeprecationWarning, stacklevel=2)
        return self.kernels()

    @cached_property
    def _own(self) -> list[Kernel]:
        return self.analysis.kernels()

    def _changed(self, kernel: Kernel) -> Kernel:
        weights = kernel.weights
        if self.weights:
            weights = weights * width(self.weights) // (8 * kernel.weight_width)
        rest, written = kernel.read - kernel.weights, kernel.written
        if self.activations and kernel.width:
            rest, written = (n * width(self.activations) // (8 * kernel.width) for n in (rest, written))
        pruned = self._kept_share(kernel)
        contractions = tuple(replace(x, dtype=self._dtype(kernel, x.dtype)) for x in kernel.contractions)
        return replace(kernel, contractions=contractions, read=rest + int(weights * pruned), written=written)

    def _dtype(self, kernel: Kernel, dtype: str) -> str:
        """Return the dtype that a contraction works in: weights that are narrower than activations are widened."""
        activations = _DTYPES.get(self.activations or "", dtype)
        if not kernel.weights or self.weights is None:
            return activations if self.activations else dtype
        if width(self.weights) < width(self.activations or "f32"):
            return activations if self.activations else dtype
        weights = _DTYPES.get(self.weights, dtype)
        integers = weights.startswith("i") and activations.startswith("i")
        return f"{activations}*{weights}->i32" if integers else activations

    def _kept_share(self, kernel: Kernel) -> float:
        """Return the share of a kernel's weights that are not zero."""
        path = "/".join(kernel.scope)
        for pattern, zero in (self.sparsity or {}).items():
            if kernel.weights and (fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")):
                return 1 - zero
        return 1.0

    # Answers.

    @property
    def macs(self) -> Count:
        """Multiply-accumulates that do not meet a pruned weight."""
        kept = sum(sum(g.matmul.values()) * g.times * self._kept_share(g) for g in self._own if g.weights)
        whole = sum(sum(g.matmul.values()) * g.times for g in self._own if g.weights)
        return self.analysis.per_device.macs - round((whole - kept) / 2)

    @property
    def ops(self) -> Count:
        """Elementary operations on any dtype; a multiply-accumulate counts two, or one if it is fused."""
        one = self.analysis.per_device
        return one.ops - 2 * one.macs + self.macs * (1 if self.fuse_multiply_add else 2)

    @property
    def model_bits(self) -> Count:
        """Bits of the stored parameters; of pruned ones those that are left, and a bit for each place."""
        parameters = self.analysis.parameters or {}
        total: Count = 0
        for (scope, dtype), size in parameters.items():
            bits = model_size({(scope, dtype): size}, self.weights)
            zero = next((z for p, z in (self.sparsity or {}).items() if _fits("/".join(scope), p)), 0.0)
            total += round(bits * (1 - zero)) + (size.elements if zero else 0)
        return total

    @property
    def traffic(self) -> Count:
        """Bytes that the kernels move."""
        return sum(kernel.moved * kernel.times for kernel in self._kernels)

    def predict(self, device: str | Device, **options: Any) -> Prediction:
        """Return how long it would take on a device."""
        from costax.performance.prediction import predict

        return predict(self, device, **options)

    @property
    def kernel_source(self) -> str:
        """What made the kernels."""
        return self.analysis.kernel_source

    def kernels(self) -> list[Kernel]:
        """Return the kernels of the analysis with the bytes and the dtypes that they would have.

        Their time is that of dense hardware: a pruned weight takes its share of the time as before.
        """
        return list(self._kernels)

    @cached_property
    def _kernels(self) -> list[Kernel]:
        return [self._changed(kernel) for kernel in self._own]

    def memory_use(self) -> MemoryUse:
        """Return the bytes that the unchanged program needs."""
        return self.analysis.memory_use()

    @property
    def assumptions(self) -> list[str]:
        """What the figures take for granted, in words."""
        said: list[str] = []
        if self.weights:
            said.append(f"Every parameter is stored as {self.weights}; scales and zero points are not counted.")
        if self.activations:
            said.append(f"Every other floating array is stored as {self.activations}.")
        if self.weights and width(self.weights) < width(self.activations or "f32"):
            said.append("Weights are narrower than activations: they are widened on the way, and the work is theirs.")
        if self.sparsity:
            said.append("Operations and sizes leave out pruned weights; time does not: dense units do not skip zeros.")
            said.append("A pruned tensor keeps a bit for each place.")
        if self.fuse_multiply_add:
            said.append("A multiply-accumulate is one operation.")
        return said

    def rows(self, device: str | Device | None = None) -> list[tuple[str, str, str, str]]:
        """Return (what, now, then, how many times as much), time and energy too where a device is named."""
        one = self.analysis.per_device
        now_traffic = sum(kernel.moved * kernel.times for kernel in self._own)
        pairs: list[tuple[str, float, float, Any]] = [
            ("MACs", one.macs, self.macs, units.short),
            ("OPs", one.ops, self.ops, units.short),
            ("model size", model_size(self.analysis.parameters or {}) / 8, self.model_bits / 8, _bytes),
            ("traffic, fused", now_traffic, self.traffic, units.short_bytes),
        ]
        if device is not None:
            from costax.errors import DeviceError
            from costax.performance.prediction import predict

            now, then = predict(self.analysis, device), self.predict(device)
            pairs.append(("time per call", now.seconds, then.seconds, units.seconds))
            try:
                joules = now.energy().joules.expected, then.energy().joules.expected
            except DeviceError:
                joules = None
            if joules:
                pairs.append(("energy per call", *joules, _joules))
        return [(what, show(a), show(b), f"{b / a:.3g}" if a else "-") for what, a, b, show in pairs]


def what_if(
    analysis: Counts,
    *,
    weights: str | None = None,
    activations: str | None = None,
    sparsity: Mapping[str, float] | None = None,
    fuse_multiply_add: bool = False,
) -> WhatIf:
    """Return a program as it would be. Raises InputError for a scheme that nobody knows, or a share beyond 0 and 1."""
    for scheme in (weights, activations):
        if scheme is not None and scheme not in _DTYPES:
            raise InputError(
                f"{scheme!r} is no scheme to store numbers in.",
                why=f"costax knows {', '.join(_DTYPES)}.",
                cure='Pass for example weights="int8".',
            )
    for pattern, zero in (sparsity or {}).items():
        if not 0 <= zero < 1:
            raise InputError(
                f"sparsity[{pattern!r}] = {zero!r} is no share.",
                why="It is the part of the weights that are zero.",
                cure="Give a number from 0 up to 1.",
            )
        if not any(_fits("/".join(scope), pattern) for scope, _ in analysis.parameters or {}):
            raise InputError(
                f"No parameter lies in a scope that fits {pattern!r}.",
                why="Pruning it would change nothing.",
                cure="Name a scope of the table by scope, or a pattern such as '*/mlp/*'.",
            )
    return WhatIf(analysis, weights, activations, dict(sparsity or {}), fuse_multiply_add)


def _fits(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")


def _joules(value: float) -> str:
    return units.rate(value, "J")


def _bytes(count: float) -> str:
    return units.short_bytes(round(count))


def schemes() -> Sequence[str]:
    """Return the names of the schemes."""
    return tuple(_DTYPES)
