"""What-if analysis: operations, sizes, traffic and time of a program under quantisation and pruning.

The program itself does not change. Contractions with a weight take the formats of weights and activations,
contractions of two activations the format of activations: costax follows the parameters through the program to tell
the two kinds apart.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

from costax.analysis.model_size import model_size, width
from costax.core import dtypes, units
from costax.core.cost import Count
from costax.core.display import Displayed
from costax.core.listing import listed
from costax.core.polynomial import Polynomial
from costax.errors import InputError
from costax.performance.hardware import Device
from costax.performance.kernels import Kernel

if TYPE_CHECKING:
    from costax.analysis.counts import Counts
    from costax.performance.prediction import Prediction
    from costax.performance.protocols import MemoryUse

# Number format -> dtype of an operand in that format.
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


@dataclass(frozen=True, repr=False)
class WhatIf(Displayed):
    """A program under changed number formats or pruning; `analysis` is the unchanged program.

    weights, activations: the number formats of parameters and of other floating arrays; None for their own dtypes.
    sparsity: the share of weights that are zero, by scope pattern. fuse_multiply_add: count a multiply-accumulate as
    one operation instead of two.
    """

    internals: ClassVar[frozenset[str]] = Displayed.internals | {"groups", "memory_use"}

    analysis: Counts
    weights: str | None = None
    activations: str | None = None
    sparsity: Mapping[str, float] | None = None
    fuse_multiply_add: bool = False

    @property
    def groups(self) -> list[Kernel]:
        """The former name of `kernels()`, deprecated."""
        warnings.warn("`groups` is now called `kernels()`.", DeprecationWarning, stacklevel=2)
        return self.kernels()

    @property
    def _own_weights_are_wider(self) -> bool:
        """Whether some kernel reads parameters that are wider than the activations would be."""
        wide = width(self.weights) if self.weights else 0
        return any(
            (wide or 8 * kernel.weight_width) > width(self.activations or "f32")
            for kernel in self._own
            if kernel.weights
        )

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
        contractions = tuple(replace(x, dtype=self._dtype(kernel, x.dtype)) for x in kernel.contractions)
        return replace(kernel, contractions=contractions, read=rest + weights, written=written)

    def _dtype(self, kernel: Kernel, dtype: str) -> str:
        """Return the dtype of a contraction: of two formats the wider, to which the narrower operand is converted.

        Of two formats of the same width the floating one is taken. An operand whose format does not change keeps its
        own dtype: float32 weights with int8 activations are a float32 product.
        """
        if not kernel.weights:
            return _DTYPES[self.activations] if self.activations else dtype
        if not (self.weights or self.activations):
            return dtype
        operands = dtype.partition("->")[0].split("*")
        first, last = operands[0], operands[-1]
        # Which operand is the weight shows in its width; where both are as wide it makes no difference.
        own, other = (last, first) if dtypes.bits(last) == 8 * kernel.weight_width else (first, last)
        activations, weights = _DTYPES.get(self.activations or "", other), _DTYPES.get(self.weights or "", own)
        if activations.startswith("i") and weights.startswith("i"):
            return f"{activations}*{weights}->i32"
        return max(activations, weights, key=lambda name: (dtypes.bits(name), dtypes.is_floating(name)))

    def _kept_share(self, kernel: Kernel) -> float:
        """Return the share of the weights of a kernel that are not zero."""
        path = "/".join(kernel.scope)
        for pattern, zero in (self.sparsity or {}).items():
            if kernel.weights and (fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")):
                return 1 - zero
        return 1.0

    # Answers.

    @property
    def macs(self) -> Count:
        """Multiply-accumulates with a weight that is not pruned, and all those of two activations."""
        kept = sum(sum(g.matmul.values()) * g.times * self._kept_share(g) for g in self._own if g.weights)
        whole = sum(sum(g.matmul.values()) * g.times for g in self._own if g.weights)
        return self.analysis.per_device.macs - round((whole - kept) / 2)

    @property
    def ops(self) -> Count:
        """Elementary operations on any dtype; a multiply-accumulate counts as two, or as one if it is fused."""
        one = self.analysis.per_device
        return one.ops - 2 * one.macs + self.macs * (1 if self.fuse_multiply_add else 2)

    @property
    def model_bits(self) -> Count:
        """Bits of the stored parameters; a pruned tensor stores its non-zero elements and a mask of one bit each."""
        parameters = self.analysis.parameters or {}
        total: Count = 0
        for (scope, dtype), size in parameters.items():
            bits = model_size({(scope, dtype): size}, self.weights)
            zero = next((z for p, z in (self.sparsity or {}).items() if _matches("/".join(scope), p)), 0.0)
            total += round(bits * (1 - zero)) + (size.elements if zero else 0)
        return total

    @property
    def traffic(self) -> Count:
        """Bytes that all kernels read and write."""
        return sum(kernel.moved * kernel.times for kernel in self._kernels)

    def predict(self, device: str | Device, **options: Any) -> Prediction:
        """Return the predicted time of the changed program on a device; the options are those of `costax.predict`."""
        from costax.performance.prediction import predict

        return predict(self, device, **options)

    @property
    def kernel_source(self) -> str:
        """The origin of the kernels, as the end of a sentence "The kernels are ..."."""
        return self.analysis.kernel_source

    @property
    def compiled_for(self) -> None:
        """None: XLA did not choose the kernels."""
        return None

    @property
    def executed_flops(self) -> None:
        """None: without a compiled program, one device executes what `per_device` counts."""
        return None

    @listed
    def kernels(self) -> list[Kernel]:
        """Return the kernels of the analysis with the bytes and the dtypes that they would have.

        Their time is that of dense hardware: a pruned weight takes its share of the bytes and of the time as before.
        """
        return list(self._kernels)

    @cached_property
    def _kernels(self) -> list[Kernel]:
        return [self._changed(kernel) for kernel in self._own]

    def memory_use(self, device: Device | None = None) -> MemoryUse:
        """Return the bytes that the unchanged program needs; the changes do not reduce them."""
        return self.analysis.memory_use(device)

    @property
    def assumptions(self) -> list[str]:
        """The assumptions behind the numbers, one sentence each."""
        assumptions: list[str] = []
        if self.weights:
            assumptions.append(f"All parameters are stored as {self.weights}; scales and zero points are not counted.")
        if self.activations:
            assumptions.append(f"All other floating arrays are stored as {self.activations}.")
        if self.weights and width(self.weights) < width(self.activations or "f32"):
            assumptions.append(
                "Weights are narrower than activations: each product converts them to the activations' format."
            )
        elif self.activations and self._own_weights_are_wider:
            assumptions.append(
                "Parameters are wider than activations: each product with one runs in the parameters' format."
            )
        if self.sparsity:
            assumptions.append(
                "Pruned weights reduce operations and the stored size, but neither traffic nor time: dense hardware "
                "reads and multiplies the zeros too."
            )
            assumptions.append("A pruned tensor stores one bit per element as a mask.")
        if self.fuse_multiply_add:
            assumptions.append("A multiply-accumulate counts as one operation.")
        return assumptions

    def rows(self, device: str | Device | None = None) -> list[tuple[str, str, str, str]]:
        """Return rows (quantity, unchanged, changed, ratio) as text; with a device also for time and energy."""
        one = self.analysis.per_device
        unchanged_traffic = sum(kernel.moved * kernel.times for kernel in self._own)
        # The model is stored once, over all devices together.
        share = f", one of {self.analysis.devices} devices" if self.analysis.devices > 1 else ""
        pairs: list[tuple[str, float, float, Any]] = [
            (f"MACs{share}", one.macs, self.macs, units.short),
            (f"OPs{share}", one.ops, self.ops, units.short),
            ("model size", model_size(self.analysis.parameters or {}) / 8, self.model_bits / 8, _bytes),
            (f"traffic, fused{share}", unchanged_traffic, self.traffic, units.short_bytes),
        ]
        if device is not None:
            from costax.errors import DeviceError
            from costax.performance.prediction import predict

            unchanged, changed = predict(self.analysis, device), self.predict(device)
            pairs.append(("time per call", unchanged.seconds, changed.seconds, units.seconds))
            try:
                joules = unchanged.energy().joules.expected, changed.energy().joules.expected
            except DeviceError:
                joules = None
            if joules:
                pairs.append(("energy per call", *joules, _joules))
        # A formula of symbols has no ratio.
        return [
            (what, show(a), show(b), f"{b / a:.3g}" if a and _are_numbers(a, b) else "-") for what, a, b, show in pairs
        ]


def _are_numbers(*counts: float) -> bool:
    return not any(isinstance(count, Polynomial) for count in counts)


def what_if(
    analysis: Counts,
    *,
    weights: str | None = None,
    activations: str | None = None,
    sparsity: Mapping[str, float] | None = None,
    fuse_multiply_add: bool = False,
) -> WhatIf:
    """Return the costs of a program under changed number formats or pruning; see `Analysis.what_if`.

    Raises InputError for an unknown format, a share outside [0, 1) or a pattern that matches no parameter.
    """
    for scheme in (weights, activations):
        if scheme is not None and scheme not in _DTYPES:
            raise InputError(
                f"{scheme!r} is not a number format that costax knows.",
                why=f"costax knows {', '.join(_DTYPES)}.",
                cure='Pass, for example, weights="int8".',
            )
    for pattern, zero in (sparsity or {}).items():
        if not 0 <= zero < 1:
            raise InputError(
                f"sparsity[{pattern!r}] must be at least 0 and less than 1, got {zero!r}.",
                why="The number is the share of the weights that are zero.",
                cure=f"Pass, for example, sparsity={{{pattern!r}: 0.5}}.",
            )
        if not any(_matches("/".join(scope), pattern) for scope, _ in analysis.parameters or {}):
            raise InputError(
                f"No scope with parameters matches {pattern!r}.",
                why="The pattern would prune nothing.",
                cure="Use a scope path of analysis.params_by_scope(), or a pattern such as '*/mlp/*'.",
            )
    return WhatIf(analysis, weights, activations, dict(sparsity or {}), fuse_multiply_add)


def _matches(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")


def _joules(value: float) -> str:
    return units.rate(value, "J")


def _bytes(count: float) -> str:
    return units.short_bytes(round(count))


def schemes() -> Sequence[str]:
    """Return the names of the number formats."""
    return tuple(_DTYPES)
