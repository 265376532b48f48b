"""Equation, Operand and Body: the plain values, independent of jax, that rules receive and return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    """An array that an equation reads or writes.

    shape: an extent for each axis, an integer or a polynomial. dtype: its short name, such as "bf16".

    >>> x = Operand((4, 8), "bf16")
    >>> x.size, x.nbytes, str(x)
    (32, 64, 'bf16[4,8]')
    """

    shape: tuple[Count, ...]
    dtype: str
    size: Count = field(init=False, compare=False)
    nbytes: Count = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Compute the size and the bytes once, because every rule reads them."""
        size = prod(self.shape)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "nbytes", -(-size * dtypes.bits(self.dtype) // 8))

    def __str__(self) -> str:
        """Show as jax does: `f32[8,224,224,3]`."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Equation:
    """One primitive applied to operands. Only body rules receive `known`, `values` and `runs`.

    name: of the primitive. inputs, outputs: the shape and dtype of each. params: jax's parameters of the primitive.
    axis_sizes: the size of every mesh axis that is manual at this equation (inside `shard_map`). known: for each input
    its value if it is an integer scalar that the program fixes, else None. values: for each input its value, a scalar
    or an array, in every run of the equation, else None. runs: these runs, in a kernel whose grid is known.
    """

    name: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    axis_sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    known: Sequence[int | None] = ()
    values: Sequence[Any] = ()
    runs: Any = None

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

    jaxpr: open or closed. times: the number of runs, None if the program does not fix it. name: of the body's scope.
    inputs: for each input of the body, the position of the equation's input that it is, starts as, or is a slice of;
    None without such an input. constants: the same for the constant variables of an open jaxpr. fixed: so many of the
    body's first inputs have the same value in every run; None if that is unknown. carried: in a loop, so many of the
    next inputs are the first results of the run before. loop: the body is the body of a loop. copies: how often XLA's
    loop contains the body, more than once if the loop is unrolled.
    choice: the body is one of several branches, and only one branch runs; the most expensive branch is counted. fused:
    the body's equations work in registers and have no memory traffic. per_device: every device of the mesh runs the
    body. axis_sizes: the mesh axes that are manual in the body, with their sizes.
    runs: in a kernel, the runs of the body; None if they are those of the equation, or if they are not known. values:
    returns the value of an input of the body in every run, by its position; None for those of the operands. results:
    returns that of a result of the equation, by its position.
    """

    jaxpr: Any
    times: Count | None = 1
    name: str = ""
    inputs: tuple[int | None, ...] = ()
    constants: tuple[int, ...] = ()
    fixed: int | None = None
    carried: int = 0
    loop: bool = False
    copies: Count = 1
    choice: bool = False
    fused: bool = False
    per_device: bool = False
    axis_sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    runs: Any = None
    values: Callable[[int], Any] | None = None
    results: Callable[[int], Any] | None = None
