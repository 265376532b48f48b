"""Traits: the properties of a primitive that analyses other than the count need.

They are declared together with the cost: `@cost_rule("tanh", traits=ELEMENTWISE)`. Memory, kernels, parameters, known
values, trip counts and the conventions of other tools read traits and never names, so that a primitive of a user works
in all of them. Whether a higher-order primitive is a call, a loop or a branch follows from the bodies that its rule
returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final


class Function(StrEnum):
    """The mathematical function of a primitive, where an analysis has to know it."""

    ADD = "add"
    SUBTRACT = "subtract"
    MULTIPLY = "multiply"
    DIVIDE = "divide"
    NEGATE = "negate"
    MAXIMUM = "maximum"
    MINIMUM = "minimum"
    SQUARE = "square"
    INTEGER_POWER = "integer power"
    POWER = "power"
    SQUARE_ROOT = "square root"
    RECIPROCAL_ROOT = "reciprocal square root"
    EXPONENTIAL = "exponential"
    ACTIVATION = "activation function"
    AND = "and"
    OR = "or"
    EXCLUSIVE_OR = "exclusive or"
    EQUAL = "equal"
    NOT_EQUAL = "not equal"
    LESS = "less"
    LESS_EQUAL = "less or equal"
    GREATER = "greater"
    GREATER_EQUAL = "greater or equal"
    SELECT = "select"
    CLAMP = "clamp"
    CONVERT = "convert"
    PAD = "pad"
    LOOK_UP = "look up"
    SUM = "sum"


class ContractionKind(StrEnum):
    """The kinds of contractions: primitives whose work is multiply-accumulates."""

    PRODUCT = "product"
    CONVOLUTION = "convolution"
    RAGGED = "ragged product"
    SCALED = "scaled product"
    SPARSE = "sparse product"


class Implementation(StrEnum):
    """How compilers implement a primitive that is no elementwise loop; it decides how much workspace they allocate."""

    FACTORIZATION = "factorization"
    SORT = "sort"
    SERIES = "series"
    WINDOW_SCATTER = "window scatter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The properties of a primitive. The default of each is false or empty.

    identity: each result equals the operand at its position.
    view: the result shares the memory of the first operand, under another shape, dtype or name.
    moves: each element of a result is an element of the first operand: moved, repeated, left out, or cast.
    permutes: it moves every element once, as a transpose does. repeats: it repeats elements, as a broadcast does.
    elementwise: element i of the result depends on element i of each operand only.
    fuses: compilers fuse it into its users, as they do with elementwise primitives.
    reduction: it reduces the elements along some axes to one. windowed: it reduces the elements of each window.
    reads_once: it reads each element of its operands once, whatever the size of the result.
    contraction: the kind of its multiply-accumulates. collective: XLA's name of its exchange, such as "all-reduce".
    in_place: it updates a part of its first operand; it overwrites the buffer of that operand if nothing else reads it.
    overwrites: it writes its whole result into the buffer of its first operand if nothing else reads it.
    partial: it reads or writes only a part of an operand. implementation: how compilers implement it.
    unmodelled: compilers allocate workspace for it that costax does not model. series_arrays: the number of arrays, of
    the size of the result, in the loop that XLA generates for it.
    operations: instructions for each element on a GPU. function: its mathematical function. fold: that function for
    Python numbers, for constant propagation.
    xla: why XLA's rule for the lowered operation counts another number than the operation takes.
    """

    identity: bool = False
    view: bool = False
    moves: bool = False
    permutes: bool = False
    repeats: bool = False
    elementwise: bool = False
    fuses: bool = False
    reduction: bool = False
    windowed: bool = False
    reads_once: bool = False
    contraction: ContractionKind | None = None
    collective: str = ""
    in_place: bool = False
    overwrites: bool = False
    partial: bool = False
    implementation: Implementation | None = None
    unmodelled: bool = False
    series_arrays: int = 0
    operations: float = 1.0
    function: Function | None = None
    fold: Callable[..., Any] | None = None
    xla: str = ""

    def but(self, **changes: Any) -> Traits:
        """Return the same traits with some of them changed.

        Args:
            changes: The traits to change, by name.

        >>> ELEMENTWISE.but(operations=20.0).elementwise
        True
        """
        return replace(self, **changes)

    @property
    def computed_where_used(self) -> bool:
        """Whether compilers compute the result where it is used."""
        return self.elementwise or self.fuses

    @property
    def preserves(self) -> bool:
        """Whether each element of a result is an element of the first operand, moved or cast."""
        return self.identity or self.moves


NO_TRAITS: Final = Traits()
"""The traits of a primitive that reads and writes whole buffers, and has no other property."""
UNDECLARED: Final = Traits()
"""The traits of a rule that declares none. Equal to NO_TRAITS, but another object, so that `is` distinguishes them."""
ELEMENTWISE: Final = Traits(elementwise=True)
TRANSCENDENTAL: Final = Traits(elementwise=True, operations=20.0)
SPECIAL_FUNCTION: Final = Traits(elementwise=True, operations=50.0)
IDENTITY: Final = Traits(identity=True, view=True, moves=True)
VIEW: Final = Traits(view=True)
MOVEMENT: Final = Traits(moves=True, fuses=True, operations=0.0)
GENERATOR: Final = Traits(fuses=True)
REDUCTION: Final = Traits(reduction=True, reads_once=True)
OPAQUE: Final = Traits(unmodelled=True)
