"""Counts: the account of one program, in every table, and the arrays and kernels that it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

from costax.core.cost import ZERO, Cost, Count
from costax.core.display import Displayed
from costax.core.equation import Operand
from costax.core.polynomial import Atom, Polynomial
from costax.core.polynomial.symbol_values import Condition
from costax.core.size import Size
from costax.errors import InputError, Missing
from costax.program.tree import DIRECTIONS, Node, Row, Scope, Unknown, rows

if TYPE_CHECKING:
    from costax.performance.kernels import Kernel
    from costax.performance.memory import Account, Buffer, Moment, Residual
    from costax.performance.protocols import MemoryUse

_K = TypeVar("_K")


@dataclass(frozen=True)
class Counts(Displayed):
    """What a program costs, in every table, with its arrays and kernels; `Analysis` adds the questions.

    The counts are those of the jaxpr after the dead-code elimination that `jit` does.

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
    concrete: Callable[[Mapping[str, int]], Any] | None = field(default=None, repr=False)
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

    @property
    def memory(self) -> Account:
        """The memory of the program: live ranges, without fusion and with it."""
        return self._memory

    @cached_property
    def _memory(self) -> Account:
        from costax._jax import donated
        from costax.performance.memory import account

        names = [path for path, _ in self.inputs]
        given = donated(self.program.traced) if self.program is not None else ()
        given = (*(False,) * (len(names) - len(given)), *given)
        return account(self.live, self.whole_tree(), names, given)

    @property
    def analysis(self) -> Self:
        """The analysis itself: a program that is predicted offers its counts under this name."""
        return self

    @property
    def kernel_source(self) -> str:
        """What made the kernels."""
        return "made by a producer-consumer rule"

    def kernels(self) -> list[Kernel]:
        """Return the kernels of the program: equations that are expected to run fused, as one kernel each."""
        from costax.performance.kernels import of_program

        parameters = self.program.parameters if self.program is not None else None
        return of_program(self.memory.region, parameters or ())

    def memory_use(self) -> MemoryUse:
        """Return the bytes that one device needs, by the fused estimate."""
        from costax.performance.protocols import MemoryUse

        parts = self.memory.parts
        allocated = parts["results"] + parts["temporaries"]
        return MemoryUse(self.memory.fused_estimate, parts, "fused estimate", allocated, self.memory.doubts)

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

    def whole_tree(self) -> Node:
        """Return the tree. Raises InputError for an analysis that was loaded from a record."""
        if self.tree is None:
            raise InputError(
                f"`{self.name}` was loaded from a record, which has no equations.",
                why="Memory and activations follow the arrays from equation to equation.",
                cure="Analyse the program again.",
            )
        return self.tree

    def is_parameter(self) -> tuple[bool, ...]:
        """Say of each input whether it is a parameter."""
        found = self.program.parameters if self.program is not None else None
        positions = {parameter.position for parameter in found or ()}
        return tuple(position in positions for position in range(len(self.inputs)))

    # Symbols.

    @cached_property
    def atoms(self) -> Mapping[str, Atom]:
        """The symbols by name: those of the inputs, of loops of unknown length, and of any count."""
        atoms: dict[str, Atom] = {}
        extents = (extent for _, operand in self.inputs for extent in operand.shape)
        loops = (unknown.assumed for unknown in self.unknowns)
        counts = (count for _, count in self.total.items())
        for count in (*extents, *loops, *counts):
            if isinstance(count, Polynomial):
                for atom in count.leaves():
                    name = atom.text.strip('"')
                    if name not in atoms or atom.least > atoms[name].least:
                        atoms[name] = atom
        return dict(sorted(atoms.items()))

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of the symbols that counts and shapes hold, loops of unknown length included; sorted."""
        return tuple(self.atoms)
