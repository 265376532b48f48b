"""Traits: what a primitive is, apart from what it costs.

A rule says both at once: `@cost_rule("tanh", traits=ELEMENTWISE)`. Memory, kernels, parameters, known values, trip
counts and the conventions of other tools read traits, never names, so that a primitive of a user works in all of them.
What a higher-order primitive does (a call, a loop, a branch) is read from the bodies that its rule gives.
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


class Implementation(StrEnum):
    """How compilers carry a primitive out where it is no loop over elements; it decides which workspace they take."""

    FACTORIZATION = "factorization"
    SORT = "sort"
    SERIES = "series"
    WINDOW_SCATTER = "window scatter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a primitive is. Everything is false, or empty, unless its rule says otherwise.

    identity: each result has the value of the operand at its position.
    view: the result lies in the memory of the first operand, under another shape, dtype or name.
    moves: each element of a result is an element of the first operand: moved, repeated, left out, or cast.
    permutes: it moves every element once, to another place. repeats: it repeats elements.
    elementwise: an element of the result depends on the elements of the operands at the same place.
    fuses: compilers compute it where its result is used, if every user can take it in; so they do what is elementwise.
    reduction: it combines the elements along some axes into one. windowed: those of each window.
    reads_once: it reads each element of its operands once, whatever the size of the result.
    contraction: its work is multiply-accumulates. collective: what devices exchange, as XLA calls it ("all-reduce").
    in_place: it changes a part of its first operand, whose buffer it takes over where nothing else needs it.
    overwrites: it leaves a whole new result in the buffer of its first operand where nothing else needs it.
    partial: it touches only a part of an operand. implementation: how compilers carry it out.
    unmodelled: compilers take workspace for it that no model of costax knows. series_arrays: the arrays of the size of
    the result in the loop that XLA writes for it.
    operations: instructions an element on a GPU. function: its mathematical function. fold: the same on numbers.
    xla: why XLA counts another number for its lowered form, where XLA's rule is not that of the operation.
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
        """Whether a result holds nothing but elements of its operand, moved or cast at most."""
        return self.identity or self.moves


NO_TRAITS: Final = Traits()
"""A primitive of which nothing is known but its cost: it reads and writes buffers."""
UNDECLARED: Final = Traits()
"""The same, of a rule that does not say what its primitive is: a rule of a user, told apart by identity."""
ELEMENTWISE: Final = Traits(elementwise=True)
TRANSCENDENTAL: Final = Traits(elementwise=True, operations=20.0)
SPECIAL_FUNCTION: Final = Traits(elementwise=True, operations=50.0)
IDENTITY: Final = Traits(identity=True, view=True, moves=True)
VIEW: Final = Traits(view=True)
MOVEMENT: Final = Traits(moves=True, fuses=True, operations=0.0)
GENERATOR: Final = Traits(fuses=True)
REDUCTION: Final = Traits(reduction=True, reads_once=True)
OPAQUE: Final = Traits(unmodelled=True)
