"""What a rule may see: plain values, without jax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final

from costax.core import dtypes
from costax.core.cost import Count

CONDITION: Final = "condition"
"""The name of the body that decides whether a loop goes on; it runs once more than the loop."""
KERNEL: Final = "kernel"
"""The name of a body that runs as one kernel, which the compiler cannot look into."""


@dataclass(frozen=True, slots=True)
class Operand:
    """An array that an equation reads or writes: its shape and the short name of its dtype.

    >>> x = Operand((4, 8), "bf16")
    >>> x.size, x.nbytes, str(x)
    (32, 64, 'bf16[4,8]')
    """

    shape: tuple[Count, ...]
    dtype: str
    size: Count = field(init=False, compare=False)
    nbytes: Count = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Work out size and bytes once: they are asked for at every use."""
        size = prod(self.shape)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "nbytes", -(-size * dtypes.bits(self.dtype) // 8))

    def __str__(self) -> str:
        """Show as jax does: `f32[8,224,224,3]`."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Equation:
    """One primitive applied to operands.

    `params` are jax's parameters of the primitive. `axis_sizes` gives the size of every mesh axis that is
    manual here (inside `shard_map`). `known[i]` is the value of input i where it is an integer scalar that the
    program fixes, else None; only body rules are given it.
    """

    name: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    axis_sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    known: Sequence[int | None] = ()

    @property
    def out(self) -> Operand:
        """The first output."""
        return self.outputs[0]

    def __str__(self) -> str:
        """Show as `name: inputs -> outputs`."""
        return f"{self.name}: {' '.join(map(str, self.inputs))} -> {' '.join(map(str, self.outputs))}"


@dataclass(frozen=True, slots=True)
class Body:
    """A jaxpr that an equation runs, and how often.

    `times` is a number, or None where the program does not fix it. `inputs[i]` names the equation's input that
    the body's input i is (or starts as, or is a slice of); None where there is no such input. The first `fixed`
    of them keep their value in every run; in a loop the next `carried` ones are the first `carried` results of the run
    before. A `loop` runs again and again; `copies` of its body stand in the loop that XLA sees, more than one where it
    is unrolled. One of the bodies of a `choice` runs, and the costliest is charged. `per_device` marks a body that
    every device of the mesh runs. The equations of a body that is `fused` read and write registers: they carry no
    bytes.
    """

    jaxpr: Any
    times: Count | None = 1
    name: str = ""
    inputs: tuple[int | None, ...] = ()
    fixed: int | None = None
    carried: int = 0
    loop: bool = False
    copies: Count = 1
    choice: bool = False
    fused: bool = False
    per_device: bool = False
    axis_sizes: Mapping[str, int] = field(default_factory=dict[str, int])
