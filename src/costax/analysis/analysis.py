"""Analysis: the counts of one program, and methods that answer questions about them."""

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
    from costax.analysis.utilisation import Utilisation
    from costax.analysis.what_if import WhatIf
    from costax.core.size import Size
    from costax.performance.hardware import Device


@dataclass(frozen=True)
class Analysis(Counts):
    """The costs of a program after the dead-code elimination of `jit`. See `Counts` for the fields.

    The methods answer questions about the counts. Each calls a function of `Counts` in a module of its own.
    """

    # Conventions of other tools.

    def as_(self, tool: str) -> Count:
        """Return the number that another tool or paper would report, such as "fvcore" or "palm-mfu".

        Raises InputError for an unknown tool; the message lists the known ones.
        """
        return self.explain_vs(tool).count

    def explain_vs(self, tool: str) -> Answer:
        """Return the difference between costax's number and that of another tool, reason by reason, defects included.

        Raises InputError for an unknown tool.
        """
        from costax.analysis.other_tools.conventions import answer

        return answer(self, tool)

    def mfu(
        self,
        seconds: float,
        device: str | Device,
        *,
        devices: int | None = None,
        tokens: int | None = None,
        peak: str | None = None,
    ) -> Utilisation:
        """Return the MFU of a step that took so many seconds, by every convention, and what each leaves out.

        device: as `costax.predict` takes it. devices: how many devices, as jax counts them, ran the whole program
        together; by default those that it is sharded over. tokens: that all of them processed in the step. peak: the
        peak to divide by, a unit of the device such as "fp8" or a dtype; by default that of the dtype with most
        products. Raises InputError for a time of 0, for another number of devices than the program has, and for a step
        faster than the peak allows; DeviceError for an unknown device; SymbolError if the FLOPs depend on symbols.
        """
        from costax.analysis.utilisation import utilisation

        return utilisation(self, seconds, device, devices=devices, tokens=tokens, peak=peak)

    def model_size(self, bits: int | str | Mapping[str, int | str] | None = None) -> Count:
        """Return the bits of the parameters as they are stored, or with another number of bits per element.

        bits: a number or a format such as "int8", for all parameters or by scope pattern
        (`{"*/embedding": 8, "*": 4}`); None for the parameters' own dtypes. Raises InputError for an unknown format
        or a scope that no pattern matches.
        """
        from costax.analysis.model_size import model_size

        return model_size(self.parameters or {}, bits)

    # Activations and memory.

    def activations(self, kind: str) -> Count:
        """Return the elements of the activations of a kind: "mit", "contractions" or "all".

        "mit": the input and the output of every layer. "contractions": the outputs of dot products and convolutions.
        "all": the outputs of all equations. Raises InputError for another kind.
        """
        return self.activation_size(kind).elements

    def activation_size(self, kind: str) -> Size:
        """Return the elements and the bytes of the activations of a kind; see `activations`."""
        from costax.analysis.activations import activations

        return activations(kind, self.live, self.whole_tree(), self.is_parameter())

    def peak_activations(self, kind: str = "mit") -> Count:
        """Return the largest sum of the input and the output of a layer, in elements (MIT 6.5940)."""
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
        """Return the costs of the program with quantised or pruned weights and quantised activations.

        weights, activations: number formats such as "int8". sparsity: the share of weights that are zero, by scope
        pattern. fuse_multiply_add: count a multiply-accumulate as one operation. The analysis itself does not change.
        Raises InputError for an unknown format, a share outside [0, 1) or a pattern that matches no parameter.
        """
        from costax.analysis.what_if import what_if

        return what_if(
            self, weights=weights, activations=activations, sparsity=sparsity, fuse_multiply_add=fuse_multiply_add
        )

    # Checks.

    def check(self, budget: Budget | None = None, **limits: int | str | None) -> Analysis:
        """Raise BudgetError if the program costs more than a budget or than single limits; return the analysis.

        >>> Analysis("f", Cost.macs_of("f32", 96)).check(flops="1 kFLOP").total.flops
        192
        """
        from costax.analysis.budgets import Budget, check

        __tracebackhide__ = True  # pytest then shows the line of the test
        check(self, budget or Budget(**limits))
        return self

    # Symbols.

    def formula(self, field: str, by: str | None = None, depth: int | None = None) -> Any:
        """Return a field as an exact Polynomial, or with `by` a Polynomial for each line of a table.

        by: "scope", "primitive", "source", "dtype" or "direction". depth: of the scopes. Raises SymbolError.

        >>> import costax
        >>> a = costax.analyze(lambda x, w: x @ w)(costax.spec("f32[b,s,768]"), costax.spec("f32[768,3072]"))
        >>> a.formula("macs"), a.formula("macs").degree("s"), a.formula("macs")(b=8, s=2048)
        (2359296*b*s, 1, 38654705664)
        """
        return symbols.formula(self, field, by, depth)

    def evaluate(self, *args: Mapping[str, int], **kwargs: int) -> Analysis:
        """Return the analysis with an integer for every symbol: `evaluate(b=8, s=2048)`.

        Pass names that are not identifiers in a mapping: `evaluate({"solver/while": 40}, b=8)`. Where a size becomes 1,
        the program is traced again with the integers, because jax omits broadcasts along a size of 1.
        Raises SymbolError for missing, unknown or impossible values.
        """
        return symbols.evaluate(self, *args, **kwargs)

    def evaluate_many(
        self, fields: Sequence[str] = tuple(FIELDS), *args: Mapping[str, Any], exact: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Return fields at many points as numpy arrays: `evaluate_many(("flops",), b=[1, 8], s=[512, 1024])`.

        The values broadcast against each other like numpy arrays. exact: return Python integers of any size, else
        float64. Raises SymbolError for missing, unknown or impossible values.
        """
        return symbols.evaluate_many(self, fields, *args, exact=exact, **kwargs)

    def degree(self, symbol: str, field: str = "flops") -> int:
        """Return the degree of a field in a symbol: 2 for the FLOPs of attention in the sequence length."""
        return growth.degree(self, symbol, field)

    def leading(self, symbol: str, field: str = "flops", depth: int | None = None) -> dict[str, growth.Leading]:
        """Return the leading term of each scope in a symbol, the highest degree first.

        Each value is (degree, coefficient of that power, least value of the symbol from which the term is at least the
        sum of all other terms).
        """
        return growth.leading(self, symbol, field, depth)

    def crossover(
        self, one: growth.Scopes, other: growth.Scopes, symbol: str, field: str = "flops", **values: int
    ) -> int | None:
        """Return the least value of a symbol from which `one` always costs more than `other`; None if there is none.

        one, other: a scope name ("attention" stands for all scopes of this name), a path, a pattern ("block_*/up"), or
        a sequence of these: ("up", "down"). values: integers for the other symbols, if the answer depends on them.
        Raises SymbolError for an unknown scope, field or symbol.
        """
        return growth.crossover(self, one, other, symbol, field, values)

    # Showing.

    def plot_breakdown(self, **choice: Any) -> Any:
        """Draw the parts of a count with matplotlib; see `costax.report.plots.plot_breakdown`."""
        return reporter("plot_breakdown")(self, **choice)

    def plot_roofline(self, device: str, *, ax: Any = None) -> Any:
        """Draw the kernels of the program on the roofline of a device, with matplotlib."""
        return reporter("plot_roofline")(self, device, ax=ax)

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame: scope, direction, primitive, source line and all cost fields of every row."""
        return reporter("to_pandas")(self)
