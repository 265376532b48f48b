"""Analysis: the counts of one program, and methods that answer questions about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from costax.analysis import growth, symbols
from costax.analysis.counts import Counts
from costax.core.cost import FIELDS, Count
from costax.core.display import reporter
from costax.core.listing import listed

if TYPE_CHECKING:
    from costax.analysis.budgets import Budget
    from costax.analysis.other_tools.conventions import Answer
    from costax.analysis.utilisation import Utilisation
    from costax.analysis.what_if import WhatIf
    from costax.core.size import Size
    from costax.performance.fit import Fit
    from costax.performance.hardware import Device
    from costax.performance.prediction import Prediction


@dataclass(frozen=True, repr=False)
class Analysis(Counts):
    """The costs of a program after the dead-code elimination of `jit`; `costax.analyze` returns it."""

    # Conventions of other tools.

    def as_(self, tool: str) -> Count:
        """Return the number that another tool or paper would report, such as "fvcore" or "palm-mfu".

        Args:
            tool: A name that `explain_vs` takes, such as "fvcore", "torch" or "palm-mfu".

        Raises InputError for an unknown tool; the message lists the known ones.
        """
        return self.explain_vs(tool).count

    def explain_vs(self, tool: str) -> Answer:
        """Return the difference between costax's number and that of another tool, reason by reason, defects included.

        Args:
            tool: Its name, such as "fvcore", "torch" or "palm-mfu".

        Raises InputError for an unknown tool.
        """
        from costax.analysis.other_tools.conventions import answer

        return answer(self._traced, tool)

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

        Args:
            seconds: Time of one step, measured.
            device: As `costax.predict` takes it.
            devices: How many devices, as jax counts them, ran the whole program together; by default those that it is
                sharded over.
            tokens: That all of them processed in the step.
            peak: The peak to divide by, a unit of the device such as "fp8" or a dtype; by default that of the dtype
                with most products.

        Raises InputError for a time of 0, for another number of devices than the program has, and for a step faster
        than the peak allows; DeviceError for an unknown device; SymbolError if the FLOPs depend on symbols.
        """
        from costax.analysis.utilisation import utilisation

        return utilisation(self, seconds, device, devices=devices, tokens=tokens, peak=peak)

    def predict(
        self,
        device: str | Device,
        mesh: Mapping[str, int] | None = None,
        *,
        examples: int | None = None,
        tokens: int | None = None,
    ) -> Prediction:
        """Return the expected time of a call on a device, and what bounds it; see `costax.predict`.

        Args:
            device: A name that `costax devices` lists, the path of a device file, or a Device.
            mesh: Sizes of named mesh axes.
            examples: Examples of one call, for the throughput.
            tokens: Tokens of one call, for the throughput.
        """
        from costax.performance.prediction import predict

        return predict(self, device, mesh, examples=examples, tokens=tokens)

    def fits(self, device: str | Device, *, devices: int | None = None) -> Fit:
        """Return whether the program fits the memory of a device; see `costax.fits`.

        Args:
            device: A name that `costax devices` lists, the path of a device file, or a Device; several of them as
                "v5e-8", "tpu:v5e:2x4" or "h100:8".
            devices: How many there are, as jax counts them, where the name does not say it.
        """
        from costax.performance.fit import fits

        return fits(self, device, devices=devices)

    def model_size(self, bits: int | str | Mapping[str, int | str] | None = None) -> Count:
        """Return the bits of the parameters as they are stored, or with another number of bits per element.

        Args:
            bits: A number or a format such as "int8", for all parameters or by scope pattern, such as
                `{"*/embedding": 8, "*": 4}`; None for the parameters' own dtypes.

        Raises InputError for an unknown format or a scope that no pattern matches.
        """
        from costax.analysis.model_size import model_size

        return model_size(self.parameters or {}, bits)

    # Activations and memory.

    def activations(self, kind: str) -> Count:
        """Return the elements of the activations of a kind: "mit", "contractions" or "all".

        Args:
            kind: "mit": the input and the output of every layer. "contractions": the outputs of dot products and
                convolutions. "all": the outputs of all equations.

        Raises InputError for another kind.
        """
        return self.activation_size(kind).elements

    def activation_size(self, kind: str) -> Size:
        """Return the elements and the bytes of the activations of a kind; see `activations`.

        Args:
            kind: As for `activations`.
        """
        from costax.analysis.activations import activations

        return activations(kind, self._traced.live, self.whole_tree(), self.is_parameter())

    def peak_activations(self, kind: str = "mit") -> Count:
        """Return the largest sum of the input and the output of a layer, in elements (MIT 6.5940).

        Args:
            kind: "mit", the only kind.
        """
        from costax.analysis.activations import checked_peak

        return checked_peak(kind, self._traced.live, self.whole_tree(), self.is_parameter()).elements

    def what_if(
        self,
        *,
        weights: str | None = None,
        activations: str | None = None,
        sparsity: Mapping[str, float] | None = None,
        fuse_multiply_add: bool = False,
    ) -> WhatIf:
        """Return the costs of the program with quantised or pruned weights and quantised activations.

        Args:
            weights, activations: Number formats such as "int8".
            sparsity: The share of weights that are zero, by scope pattern.
            fuse_multiply_add: Count a multiply-accumulate as one operation.

        Raises InputError for an unknown format, a share outside [0, 1) or a pattern that matches no parameter.
        """
        from costax.analysis.what_if import what_if

        return what_if(
            self, weights=weights, activations=activations, sparsity=sparsity, fuse_multiply_add=fuse_multiply_add
        )

    # Checks.

    def check(self, budget: Budget | None = None, **limits: int | str | None) -> Analysis:
        """Raise BudgetError if the program costs more than a budget or than single limits; return the analysis.

        Args:
            budget: The limits.
            limits: Single limits instead, such as `flops="4 GFLOP"`; see `Budget`.

        >>> Analysis("f", Cost.macs_of("f32", 96)).check(flops="1 kFLOP").total.flops
        192
        """
        from costax.analysis.budgets import Budget, check

        __tracebackhide__ = True  # pytest then shows the line of the test
        check(self, budget or Budget(**limits))
        return self

    # Symbols.

    @listed
    def formula(self, field: str, by: str | None = None, depth: int | None = None) -> Any:
        """Return a field as an exact Polynomial, or with `by` a Polynomial for each line of a table.

        Args:
            field: One of the fields of `Cost`, "params" or "param_bytes".
            by: "scope", "primitive", "source", "dtype" or "direction".
            depth: Levels of scopes; by default all.

        Raises SymbolError.

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

        Args:
            args: Mappings from symbols to integers, for names that are not identifiers.
            kwargs: An integer for each other symbol.

        Raises SymbolError for missing, unknown or impossible values.
        """
        return symbols.evaluate(self, *args, **kwargs)

    @listed
    def evaluate_many(
        self, fields: Sequence[str] = tuple(FIELDS), *args: Mapping[str, Any], exact: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Return fields at many points as numpy arrays: `evaluate_many(("flops",), b=[1, 8], s=[512, 1024])`.

        The values broadcast against each other like numpy arrays.

        Args:
            fields: Fields of `Cost`, "params" or "param_bytes".
            args: Mappings from symbols to arrays.
            exact: Return Python integers of any size, else float64.
            kwargs: An array of integers for each other symbol.

        Raises SymbolError for missing, unknown or impossible values.
        """
        return symbols.evaluate_many(self, fields, *args, exact=exact, **kwargs)

    def degree(self, symbol: str, field: str = "flops") -> int:
        """Return the degree of a field in a symbol: 2 for the FLOPs of attention in the sequence length.

        Args:
            symbol: Its name.
            field: A field of `Cost`.
        """
        return growth.degree(self, symbol, field)

    @listed
    def leading(self, symbol: str, field: str = "flops", depth: int | None = None) -> dict[str, growth.Leading]:
        """Return the leading term of each scope in a symbol, the highest degree first.

        Each value is (degree, coefficient of that power, least value of the symbol from which the term is at least the
        sum of all other terms).

        Args:
            symbol: Its name.
            field: A field of `Cost`.
            depth: Levels of scopes; by default all.
        """
        return growth.leading(self, symbol, field, depth)

    def crossover(
        self, one: growth.Scopes, other: growth.Scopes, symbol: str, field: str = "flops", **values: int
    ) -> int | None:
        """Return the least value of a symbol from which `one` always costs more than `other`; None if there is none.

        Args:
            one, other: A scope name ("attention" stands for all scopes of this name), a path, a pattern ("block_*/up"),
                or a sequence of these: ("up", "down").
            symbol: Its name.
            field: A field of `Cost`.
            values: Integers for the other symbols, if the answer depends on them.

        Raises SymbolError for an unknown scope, field or symbol.
        """
        return growth.crossover(self, one, other, symbol, field, values)

    # Showing.

    def table(
        self,
        by: str = "scope",
        depth: int | None = None,
        top: int | None = None,
        *,
        sort: str | None = None,
        direction: str | None = None,
        merge: bool = True,
        columns: Sequence[str] = (),
    ) -> Any:
        """Return the table of the program, which `print` and a notebook show.

        Args:
            by: What a line stands for: "scope", "module", "primitive", "source", "dtype" or "direction".
            depth: Levels of scopes or modules; by default as many as fit in 150 lines.
            top: Lines for each level, the costliest; the others share a line.
            sort: "order", "macs", "flops", "transcendentals", "ops", "bytes", "params" or "name".
            direction: Only this part of a training step: "forward", "backward", "recompute" or "update".
            merge: Whether equal layers share one line.
            columns: What stands beside each layer that is a module: "type", its class, and "output", its shape.

        Raises:
            InputError: One of the choices does not exist.

        >>> import costax
        >>> print(costax.analyze(lambda x, w: x @ w)("f32[4,8]", "f32[8,3]").table(by="primitive"))
         primitive     MACs   FLOPs   transc.   traffic   % FLOPs
         ────────────────────────────────────────────────────────
         dot_general     96     192         0     272 B     100.0
        <BLANKLINE>
         total           96     192         0     272 B     100.0
        """
        view = {"top": top, "direction": direction, "merge": merge, "columns": columns}
        return reporter("table")(self, by=by, depth=depth, sort=sort, **view)

    def plot_breakdown(self, **choice: Any) -> Any:
        """Draw the parts of a count with matplotlib; see `costax.report.plots.plot_breakdown`.

        Args:
            choice: As for `costax.report.plots.plot_breakdown`.
        """
        return reporter("plot_breakdown")(self, **choice)

    def plot_roofline(self, device: str, *, ax: Any = None) -> Any:
        """Draw the kernels of the program on the roofline of a device, with matplotlib.

        Args:
            device: A name that `costax devices` lists, or the path of a device file.
            ax: The axes of matplotlib to draw on; by default new ones.
        """
        return reporter("plot_roofline")(self, device, ax=ax)

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame: scope, direction, primitive, source line and all cost fields of every row."""
        return reporter("to_pandas")(self)
