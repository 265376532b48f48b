"""Analysis: the account of one program, ready for every question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from costax.analysis import growth, symbols
from costax.core.cost import FIELDS, ZERO, Cost, Count
from costax.core.equation import Operand
from costax.core.polynomial import Polynomial
from costax.core.polynomial.points import Condition
from costax.errors import InputError, Missing
from costax.program.tree import (
    DIRECTIONS,
    Node,
    Row,
    Scope,
    Unknown,
    rows,
)

if TYPE_CHECKING:
    from pathlib import Path

    from costax.analysis.budgets import Budget
    from costax.analysis.other_tools.conventions import Answer
    from costax.analysis.what_if import WhatIf
    from costax.performance.memory import Account, Buffer, Moment, Residual


_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class Size:
    """Parameters: how many elements and how many bytes; adds."""

    elements: Count = 0
    nbytes: Count = 0

    def __add__(self, other: Size) -> Size:
        """Add elements and bytes."""
        return Size(self.elements + other.elements, self.nbytes + other.nbytes)


@dataclass(frozen=True)
class Analysis:
    """What a program asks for: ledger A, after the dead-code elimination that `jit` does.

    `rows` hold one cost for each (scope, direction, primitive, source line), and every table is a sum of them.
    Numbers are for the whole program, all devices together; `per_device` is for one. An analysis that was loaded
    from a record has its `saved_rows` and no `tree`, `program` or sources.

    Where shapes hold symbols, or loops have no length in the program, counts are polynomials; `conditions` are what
    their symbols obey, `exact_by` says how the formulas were found ("tracing", or "interpolation" through concrete
    analyses), `reason` why tracing did not do, and `point` holds the values that `evaluate` put in. `extents` are the
    sizes in the program that depend on symbols, and `concrete` analyses it at plain ones.
    """

    name: str
    total: Cost
    inputs: tuple[tuple[str, Operand], ...] = ()
    unknowns: tuple[Unknown, ...] = ()
    uncounted: tuple[Missing, ...] = ()
    parameters: Mapping[tuple[Scope, str], Size] | None = None
    per_device: Cost = ZERO
    devices: int = 1
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    tree: Node | None = None
    program: Any = field(default=None, repr=False)
    live: Any = field(default=None, repr=False)
    source_of: Callable[[Any], str] = field(default=lambda eqn: "", repr=False)
    dead_part: Callable[[], Cost] = field(default=lambda: ZERO, repr=False)
    saved_rows: Mapping[Row, Cost] | None = field(default=None, repr=False)
    conditions: tuple[Condition, ...] = ()
    exact_by: str = ""
    reason: str = ""
    extents: tuple[Count, ...] = ()
    concrete: Callable[[Mapping[str, int]], Analysis] | None = field(default=None, repr=False)
    point: Mapping[str, Count] = field(default_factory=dict[str, Count])

    @cached_property
    def rows(self) -> Mapping[Row, Cost]:
        """One cost for each (scope, direction, primitive, source line); they sum to `total`."""
        if self.saved_rows is not None:
            return self.saved_rows
        return rows(self.tree, self.source_of) if self.tree else {}

    @property
    def exact(self) -> bool:
        """Say whether every number or formula is exact: nothing uncounted, no loop of unknown length counted once."""
        counted = all(u.answered or isinstance(u.assumed, Polynomial) for u in self.unknowns)
        return counted and not self.uncounted

    @cached_property
    def dead_code(self) -> Cost:
        """What the traced program holds beyond `total`, and `jit` drops before it lowers."""
        return self.dead_part()

    # Sums.

    def by_scope(self, depth: int | None = None) -> dict[str, Cost]:
        """Return the cost of each scope path, cut at `depth` parts; their sum is the total."""
        return self._by(lambda row: "/".join(row.scope[:depth]))

    def by_primitive(self) -> dict[str, Cost]:
        """Return the cost of each primitive."""
        return self._by(lambda row: row.primitive)

    def by_scope_and_primitive(self, depth: int | None = None) -> dict[tuple[str, str], Cost]:
        """Return the cost of each primitive in each scope."""
        return self._by(lambda row: ("/".join(row.scope[:depth]), row.primitive))

    def by_source(self) -> dict[str, Cost]:
        """Return the cost of each source line, as `file:line`; "" where jax kept none."""
        return self._by(lambda row: row.source)

    def by_direction(self) -> dict[str, Cost]:
        """Return the cost of the forward, backward and recomputed part and of the update that follows a gradient."""
        found = self._by(lambda row: row.direction)
        return {direction: found[direction] for direction in DIRECTIONS if direction in found}

    def by_dtype(self) -> dict[str, Cost]:
        """Return the cost of each dtype; mixed contractions are filed as `operands->accumulator`."""
        return self.total.by_dtype()

    def _by(self, key: Callable[[Row], _K]) -> dict[_K, Cost]:
        parts: dict[_K, list[Cost]] = {}
        for row, cost in self.rows.items():
            parts.setdefault(key(row), []).append(cost)
        return {k: Cost.sum(costs) for k, costs in parts.items()}

    # Parameters.

    @property
    def params(self) -> Count | None:
        """Elements of the parameters, tied leaves once; None where nobody said which inputs are parameters."""
        return None if self.parameters is None else sum((s.elements for s in self.parameters.values()), 0)

    @property
    def param_bytes(self) -> Count | None:
        """Bytes of the parameters as they are stored; None where nobody said which inputs are parameters."""
        return None if self.parameters is None else sum((s.nbytes for s in self.parameters.values()), 0)

    def params_by_scope(self, depth: int | None = None) -> dict[str, Size]:
        """Return the parameters of each scope: where each is used first."""
        sizes: dict[str, Size] = {}
        for (scope, _), size in (self.parameters or {}).items():
            key = "/".join(scope[:depth])
            sizes[key] = sizes.get(key, Size()) + size
        return sizes

    def params_by_dtype(self) -> dict[str, Size]:
        """Return the parameters of each dtype."""
        sizes: dict[str, Size] = {}
        for (_, dtype), size in (self.parameters or {}).items():
            sizes[dtype] = sizes.get(dtype, Size()) + size
        return sizes

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

        return activations(kind, self.live, self._whole(), self._fixed())

    def peak_activations(self, kind: str = "mit") -> Count:
        """Return the largest sum of a layer's input and output, in elements (MIT 6.5940)."""
        from costax.analysis.activations import checked_peak

        return checked_peak(kind, self.live, self._whole(), self._fixed()).elements

    @cached_property
    def memory(self) -> Account:
        """The memory of the program: live ranges, without fusion and with it."""
        from costax._jax import donated
        from costax.performance.memory import account

        names = [path for path, _ in self.inputs]
        given = donated(self.program.traced) if self.program is not None else ()
        given = (*(False,) * (len(names) - len(given)), *given)
        return account(self.live, self._whole(), names, given)

    @property
    def peak_bytes(self) -> Count:
        """The framework peak: bytes alive at once if every equation has its result in a buffer of its own."""
        return self.memory.framework_peak

    @property
    def fused_peak_bytes(self) -> Count:
        """The fused estimate: bytes that a compiler is expected to take, elementwise chains fused."""
        return self.memory.fused_estimate

    def memory_timeline(self, *, fused: bool = False) -> list[Moment]:
        """Return what is alive at each step of the program."""
        return self.memory.timeline(fused=fused)

    def live_at_peak(self, n: int | None = 10, *, fused: bool = False) -> list[Buffer]:
        """Return the largest buffers alive at the peak: their scopes, shapes, lines, and why they are kept."""
        return self.memory.live_at_peak(n, fused=fused)

    def saved_residuals(self) -> list[Residual]:
        """Return what the forward pass leaves for the backward pass."""
        from costax.performance.memory import residuals

        return residuals(self.memory.region)

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

    def _whole(self) -> Node:
        if self.tree is None:
            raise InputError(
                f"`{self.name}` was loaded from a record, which has no equations.",
                why="Memory and activations follow the arrays from equation to equation.",
                cure="Analyse the program again.",
            )
        return self.tree

    def _fixed(self) -> tuple[bool, ...]:
        """Say of each input whether it is a parameter."""
        found = self.program.parameters if self.program is not None else None
        positions = {parameter.position for parameter in found or ()}
        return tuple(position in positions for position in range(len(self.inputs)))

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

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The names of the symbols that counts and shapes hold, loops of unknown length included; sorted."""
        return tuple(symbols.atoms(self))

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

    def save(self, path: str | Path) -> None:
        """Write the analysis to a file; the suffix names the format. Raises RecordError for a suffix nobody knows."""
        from costax.report import save

        save(self, path)

    def plot_breakdown(self, **choice: Any) -> Any:
        """Draw where a count goes, with matplotlib; see `costax.report.plots.plot_breakdown`."""
        from costax.report.plots import plot_breakdown

        return plot_breakdown(self, **choice)

    def plot_roofline(self, device: str, *, ax: Any = None) -> Any:
        """Draw the program under the roof of a device, with matplotlib."""
        from costax.report.plots import plot_roofline

        return plot_roofline(self, device, ax=ax)

    def to_pandas(self) -> Any:
        """Return a data frame of the rows: scope, direction, primitive, source line and every field of their cost."""
        from costax.report.dataframe import frame

        return frame(self)

    def __rich__(self) -> Any:
        """Return what rich prints."""
        from costax.report.text import render

        return render(self)

    def _repr_html_(self) -> str:
        """Return the tables for a notebook."""
        from costax.report.notebook import as_html

        return as_html(self)

    def __str__(self) -> str:
        """Return the tables as plain text."""
        from costax.report.text import plain

        return plain(self)
