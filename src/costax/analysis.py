"""Analysis: the account of one program, ready for every question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from costax.cost import ZERO, Cost, Count
from costax.equation import Operand
from costax.errors import InputError, Missing
from costax.tree import DIRECTIONS, Node, Row, Scope, Unknown, rows

if TYPE_CHECKING:
    from pathlib import Path

    from costax.memory import Account, Buffer, Moment, Residual
    from costax.substitution import WhatIf


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

    @cached_property
    def rows(self) -> Mapping[Row, Cost]:
        """One cost for each (scope, direction, primitive, source line); they sum to `total`."""
        if self.saved_rows is not None:
            return self.saved_rows
        return rows(self.tree, self.source_of) if self.tree else {}

    @property
    def exact(self) -> bool:
        """Say whether every number is exact: no loop of unknown length, nothing uncounted."""
        return not self.uncounted and all(unknown.answered for unknown in self.unknowns)

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

    def model_size(self, bits: int | str | Mapping[str, int | str] | None = None) -> Count:
        """Return the bits of the stored parameters, or of so many bits an element.

        bits: a number or a scheme such as "int8", for all or by scope pattern (`{"*/embedding": 8, "*": 4}`); None for
        those of their dtypes.
        """
        from costax.sizes import model_size

        return model_size(self.parameters or {}, bits)

    # Activations and memory.

    def activations(self, kind: str) -> Count:
        """Return the elements of the activations: "mit", "contractions" or "all". See `costax.activations`."""
        return self.activation_size(kind).elements

    def activation_size(self, kind: str) -> Size:
        """Return elements and bytes of the activations of a kind."""
        from costax.activations import activations

        return activations(kind, self.live, self._whole(), self._fixed())

    def peak_activations(self, kind: str = "mit") -> Count:
        """Return the largest sum of a layer's input and output, in elements (MIT 6.5940)."""
        from costax.activations import checked_peak

        return checked_peak(kind, self.live, self._whole(), self._fixed()).elements

    @cached_property
    def memory(self) -> Account:
        """The memory of the program: live ranges, without fusion and with it."""
        from costax._jax import donated
        from costax.memory import account

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
        from costax.memory import residuals

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
        from costax.substitution import what_if

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

    # Showing.

    def save(self, path: str | Path) -> None:
        """Write the analysis to a file; the suffix names the format. Raises RecordError for a suffix nobody knows."""
        from costax.report import save

        save(self, path)

    def __rich__(self) -> Any:
        """Return what rich prints."""
        from costax.report.text import render

        return render(self)

    def __str__(self) -> str:
        """Return the tables as plain text."""
        from costax.report.text import plain

        return plain(self)
