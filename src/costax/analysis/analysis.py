"""Analysis: the counts of one program, ready for every question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from costax.analysis import growth, symbols
from costax.analysis.counts import Counts
from costax.core.cost import FIELDS, Count
from costax.core.display import reporter

if TYPE_CHECKING:
    from costax.analysis.budgets import Budget
    from costax.analysis.other_tools.conventions import Answer
    from costax.analysis.what_if import WhatIf
    from costax.core.size import Size


@dataclass(frozen=True)
class Analysis(Counts):
    """What a program asks for, after the dead-code elimination that `jit` does; see `Counts` for its fields.

    The methods of this class answer questions about the counts. Each is a function of `Counts` in a module of its own.
    """

    # As others count.

    def as_(self, tool: str) -> Count:
        """Return the number that another tool or paper would print, such as "fvcore" or "palm-mfu".

        Raises InputError for one that nobody knows; its message lists them.
        """
        return self.explain_vs(tool).count

    def explain_vs(self, tool: str) -> Answer:
        """Return the way from our number to that of another tool, line by line, with its known defects."""
        from costax.analysis.other_tools.conventions import answer

        return answer(self, tool)

    def model_size(self, bits: int | str | Mapping[str, int | str] | None = None) -> Count:
        """Return the bits of the stored parameters, or of so many bits an element.

        bits: a number or a scheme such as "int8", for all or by scope pattern (`{"*/embedding": 8, "*": 4}`); None for
        those of their dtypes.
        """
        from costax.analysis.model_size import model_size

        return model_size(self.parameters or {}, bits)

    # Activations and memory.

    def activations(self, kind: str) -> Count:
        """Return the elements of the activations: "mit", "contractions" or "all". See `costax.activations`."""
        return self.activation_size(kind).elements

    def activation_size(self, kind: str) -> Size:
        """Return elements and bytes of the activations of a kind."""
        from costax.analysis.activations import activations

        return activations(kind, self.live, self.whole_tree(), self.is_parameter())

    def peak_activations(self, kind: str = "mit") -> Count:
        """Return the largest sum of a layer's input and output, in elements (MIT 6.5940)."""
        from costax.analysis.activations import checked_peak

        return checked_peak(kind, self.live, self.whole_tree(), self.is_parameter()).elements

    def what_if(
        self,
        *,
        weights: str | None = None,
        activations: str | None = None,
        sparsity: Mapping[str, float] | None = None,
        fuse_multiply_add: bool = False,
    ) -> WhatIf:
        """Return the program as it would be with other weights and activations, or pruned; nothing is changed."""
        from costax.analysis.what_if import what_if

        return what_if(
            self, weights=weights, activations=activations, sparsity=sparsity, fuse_multiply_add=fuse_multiply_add
        )

    # Checks.

    def check(self, budget: Budget | None = None, **limits: int | str | None) -> Analysis:
        """Raise BudgetError if the program costs more than a budget or some limits; return the analysis itself.

        >>> Analysis("f", Cost.macs_of("f32", 96)).check(flops="1 kFLOP").total.flops
        192
        """
        from costax.analysis.budgets import Budget, check

        __tracebackhide__ = True  # pytest shows the line of the test instead
        check(self, budget or Budget(**limits))
        return self

    # Symbols.

    def formula(self, field: str, by: str | None = None, depth: int | None = None) -> Any:
        """Return a field as an exact Polynomial; with `by` ("scope", "primitive", ...) one for each line of that table.

        >>> import costax
        >>> a = costax.analyze(lambda x, w: x @ w)(costax.spec("f32[b,s,768]"), costax.spec("f32[768,3072]"))
        >>> a.formula("macs"), a.formula("macs").degree("s"), a.formula("macs")(b=8, s=2048)
        (2359296*b*s, 1, 38654705664)
        """
        return symbols.formula(self, field, by, depth)

    def evaluate(self, *args: Mapping[str, int], **kwargs: int) -> Analysis:
        """Return the analysis with an integer in the place of every symbol: `evaluate(b=8, s=2048)`.

        Names that are no identifiers come in a mapping: `evaluate({"solver/while": 40}, b=8)`. A program with a size of
        1 may be another one, for jax leaves out what broadcasts nothing: there the program itself is analysed.
        Raises SymbolError for missing, unknown or impossible values.
        """
        return symbols.evaluate(self, *args, **kwargs)

    def evaluate_many(
        self, fields: Sequence[str] = tuple(FIELDS), *args: Mapping[str, Any], exact: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Return fields at many points as numpy arrays: `evaluate_many(("flops",), b=[1, 8], s=[512, 1024])`.

        Values broadcast against each other. exact: Python integers of any size; else doubles.
        """
        return symbols.evaluate_many(self, fields, *args, exact=exact, **kwargs)

    def degree(self, symbol: str, field: str = "flops") -> int:
        """Return the highest power of a symbol in a field: 2 for the FLOPs of attention in the sequence length."""
        return growth.degree(self, symbol, field)

    def leading(self, symbol: str, field: str = "flops", depth: int | None = None) -> dict[str, growth.Leading]:
        """Return how each scope grows with a symbol, the fastest first.

        Each is (degree, the coefficient of that power, the least value from which that power outweighs the rest).
        """
        return growth.leading(self, symbol, field, depth)

    def crossover(
        self, one: growth.Scopes, other: growth.Scopes, symbol: str, field: str = "flops", **values: int
    ) -> int | None:
        """Return the least value of a symbol from which `one` costs more than `other`; None if there is none.

        one, other: scopes by name ("attention", all of them together), path or pattern ("block_*/up"), or several of
        these, as ("up", "down"). values: of further symbols, where the answer depends on them.
        """
        return growth.crossover(self, one, other, symbol, field, values)

    # Showing.

    def plot_breakdown(self, **choice: Any) -> Any:
        """Draw where a count goes, with matplotlib; see `costax.report.plots.plot_breakdown`."""
        return reporter("plot_breakdown")(self, **choice)

    def plot_roofline(self, device: str, *, ax: Any = None) -> Any:
        """Draw the program under the roof of a device, with matplotlib."""
        return reporter("plot_roofline")(self, device, ax=ax)

    def to_pandas(self) -> Any:
        """Return a data frame of the rows: scope, direction, primitive, source line and every field of their cost."""
        return reporter("to_pandas")(self)
