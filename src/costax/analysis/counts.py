"""Counts: the costs of one program by scope, primitive, source line, dtype and direction, its memory and kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from costax.analysis.exactness import EXACT, exactness
from costax.core.cost import ZERO, Cost, Count
from costax.core.display import Displayed
from costax.core.equation import Operand
from costax.core.listing import Entries, Items, listed
from costax.core.open_symbols import check_numbers
from costax.core.polynomial import Atom, Polynomial
from costax.core.polynomial.symbol_values import Condition
from costax.core.size import Size
from costax.errors import InputError, Missing
from costax.program.tree import DIRECTIONS, Choice, Node, Row, Scope, Unknown, rows

if TYPE_CHECKING:
    from costax.performance.hardware import Device
    from costax.performance.kernels import Kernel
    from costax.performance.memory import Buffer, MemoryProfile, Residual, TimelinePoint
    from costax.performance.protocols import MemoryUse

_K = TypeVar("_K")


@dataclass(frozen=True, repr=False)
class Counts(Displayed):
    """The costs of a program, its memory and its kernels. `Analysis` adds methods that answer questions.

    The counts belong to the jaxpr after the dead-code elimination of `jit`. They are polynomials if shapes contain
    symbols, or if the program does not fix the length of a loop. `rows` has one cost for each scope, direction,
    primitive and source line, and every table is a sum of rows.

    name: of the program. total: the cost of all devices together. per_device: that of one device, as are the memory
    and the kernels. devices: those of the meshes in the program, and of its arguments' shardings. even_share:
    whether XLA's partitioner splits the program or a part of it. Then `per_device` is an even share of the total, the
    least that one device does; a comparison knows what several devices repeat, and which collectives are added.

    inputs: the name, shape and dtype of each argument. parameters: elements and bytes of the parameters by scope and
    dtype; None if nobody said which arguments they are. unknowns: loops whose trip count the program does not fix.
    uncounted: primitives whose work is not counted. choices: conditionals whose branch the program does not fix.
    versions: of costax, jax and jaxlib. tree: the equations and their bodies; None in a loaded record.

    conditions: constraints on the symbols under which the polynomials hold. exact_by: the source of the polynomials,
    "tracing" or "interpolation" through analyses at concrete sizes. reason: why tracing failed, for "interpolation".
    point: the values that `evaluate` has set. retrace: analyses the program with values for its symbols, for questions
    that need its equations. extents: the sizes in the program that depend on symbols. concrete: analyses the program
    at concrete sizes. saved_rows: the rows of a loaded record, which has no `tree`, `program` or sources.
    """

    internals: ClassVar[frozenset[str]] = Displayed.internals | {
        *("analysis", "atoms", "compiled_for", "concrete", "dead_part", "executed_flops", "extents", "is_parameter"),
        *("kernel_source", "live", "memory_use", "program", "retrace", "saved_rows", "source_of", "whole_tree"),
    }

    name: str
    total: Cost
    inputs: tuple[tuple[str, Operand], ...] = ()
    unknowns: tuple[Unknown, ...] = ()
    uncounted: tuple[Missing, ...] = ()
    choices: tuple[Choice, ...] = ()
    parameters: Mapping[tuple[Scope, str], Size] | None = None
    per_device: Cost = ZERO
    devices: int = 1
    even_share: bool = False
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
    retrace: Callable[[Mapping[str, Any]], Any] | None = field(default=None, repr=False)

    @cached_property
    @listed
    def rows(self) -> Mapping[Row, Cost]:
        """The cost of each (scope, direction, primitive, source line); the costs sum to `total`."""
        if self.saved_rows is not None:
            return self.saved_rows
        return rows(self.tree, self.source_of) if self.tree else {}

    @property
    def macs(self) -> Count:
        """Multiply-accumulates of the whole program, those on padding included: `total.macs`."""
        return self.total.macs

    @property
    def flops(self) -> Count:
        """FLOPs of the whole program, 2 for each multiply-accumulate: `total.flops`."""
        return self.total.flops

    @property
    def exact(self) -> bool:
        """Whether every count is exact: an integer, or a formula in the sizes that have names."""
        return self.exactness == EXACT

    @property
    def exactness(self) -> str:
        """How far the counts can be trusted, as one word; see `costax.analysis.exactness` for the words.

        "exact", "symbolic" (exact up to trip counts that the program does not fix), "upper bound", "lower bound",
        "estimate" or "incomplete".
        """
        return exactness(self.unknowns, self.uncounted, self.choices)

    @cached_property
    def dead_code(self) -> Cost:
        """The cost of the dead code that `jit` removes before lowering; `total` does not include it."""
        return self.dead_part()

    # Sums.

    def by_scope(self, depth: int | None = None) -> dict[str, Cost]:
        """Return the cost of each scope path of at most `depth` parts; the costs sum to the total.

        Args:
            depth: Levels of scopes; by default all.
        """
        return self._by(lambda row: "/".join(row.scope[:depth]))

    def by_primitive(self) -> dict[str, Cost]:
        """Return the cost of each primitive."""
        return self._by(lambda row: row.primitive)

    def by_scope_and_primitive(self, depth: int | None = None) -> dict[tuple[str, str], Cost]:
        """Return the cost of each primitive in each scope.

        Args:
            depth: Levels of scopes; by default all.
        """
        return self._by(lambda row: ("/".join(row.scope[:depth]), row.primitive))

    def by_source(self) -> dict[str, Cost]:
        """Return the cost of each source line `file:line`; "" stands for equations without a source line."""
        return self._by(lambda row: row.source)

    def by_direction(self) -> dict[str, Cost]:
        """Return the cost of each direction: forward, backward, recompute, and update (after a gradient)."""
        costs = self._by(lambda row: row.direction)
        return Entries({direction: costs[direction] for direction in DIRECTIONS if direction in costs})

    def by_dtype(self) -> dict[str, Cost]:
        """Return the cost of each dtype; a mixed-precision contraction has the key `operands->accumulator`."""
        return Entries(self.total.by_dtype())

    def _by(self, key: Callable[[Row], _K]) -> dict[_K, Cost]:
        parts: dict[_K, list[Cost]] = {}
        for row, cost in self.rows.items():
            parts.setdefault(key(row), []).append(cost)
        return Entries({k: Cost.sum(costs) for k, costs in parts.items()})

    # Parameters.

    @property
    def params(self) -> Count | None:
        """Elements of the parameters, tied leaves once; None if it is not known which inputs are parameters."""
        return None if self.parameters is None else sum((s.elements for s in self.parameters.values()), 0)

    @property
    def param_bytes(self) -> Count | None:
        """Bytes of the stored parameters, tied leaves once; None if it is not known which inputs are parameters."""
        return None if self.parameters is None else sum((s.nbytes for s in self.parameters.values()), 0)

    def params_by_scope(self, depth: int | None = None) -> dict[str, Size]:
        """Return the parameters of each scope. A parameter belongs to the scope of its first use.

        Args:
            depth: Levels of scopes; by default all.
        """
        sizes: dict[str, Size] = Entries()
        for (scope, _), size in (self.parameters or {}).items():
            key = "/".join(scope[:depth])
            sizes[key] = sizes.get(key, Size()) + size
        return sizes

    def params_by_dtype(self) -> dict[str, Size]:
        """Return the parameters of each dtype."""
        sizes: dict[str, Size] = Entries()
        for (_, dtype), size in (self.parameters or {}).items():
            sizes[dtype] = sizes.get(dtype, Size()) + size
        return sizes

    @property
    def memory(self) -> MemoryProfile:
        """The memory of the program: live ranges of all buffers, without and with fusion."""
        return self._memory

    @cached_property
    def _memory(self) -> MemoryProfile:
        if self._traced is not self:
            return self._traced._memory
        check_numbers(self, "Which arrays are alive at the peak depends on their sizes.", only_sizes=True)
        return self.memory_formulas

    @cached_property
    def memory_formulas(self) -> MemoryProfile:
        """The memory profile also where sizes are symbols: then only its timeline and lifetimes without fusion hold."""
        from costax._jax import argument_shards, donated, result_shards
        from costax.performance.memory import XLA_GPU_H100, memory_profile

        names = [path for path, _ in self.inputs]
        donated_inputs = donated(self.program.traced) if self.program is not None else ()
        # jax may put constants before the arguments; they are never donated.
        donated_inputs = (*(False,) * (len(names) - len(donated_inputs)), *donated_inputs)
        if not self.even_share:
            return memory_profile(self.live, self.whole_tree(), names, donated_inputs)
        shards = argument_shards(self.program.traced) if self.program is not None else ()
        shards = (*(None,) * (len(names) - len(shards)), *shards)
        results = result_shards(self.program.traced) if self.program is not None else ()
        tree, split = self.whole_tree(), (self.devices, shards, results)
        return memory_profile(self.live, tree, names, donated_inputs, XLA_GPU_H100, *split)

    @property
    def hardware_flops(self) -> Count:
        """FLOPs of one device, recomputed work included."""
        return self.per_device.flops

    @property
    def traffic(self) -> dict[str, Count]:
        """Bytes that every equation reads and writes ("unfused"), and each input and output once ("compulsory")."""
        region = self.memory.region
        compulsory = sum(region.values[x].nbytes for x in (*region.inputs, *region.outputs) if x is not None)
        return {"unfused": self.per_device.bytes_unfused, "compulsory": compulsory}

    @property
    def analysis(self) -> Self:
        """The analysis itself. The protocol `Predictable` asks for the counts of a program under this name."""
        return self

    @property
    def kernel_source(self) -> str:
        """The origin of the kernels, as the end of a sentence "The kernels are ..."."""
        share = f", each split evenly over {self.devices} devices" if self.even_share else ""
        return f"chosen by the producer-consumer rule of XLA for an H100{share}"

    @property
    def compiled_for(self) -> None:
        """None: XLA did not choose the kernels."""
        return None

    @property
    def executed_flops(self) -> None:
        """None: without a compiled program, one device executes what `per_device` counts."""
        return None

    def kernels(self) -> list[Kernel]:
        """Return the kernels of the program: equations that are expected to run fused, as one kernel each."""
        from costax.performance.kernels import of_program

        if self._traced is not self:
            return self._traced.kernels()
        parameters = self.program.parameters if self.program is not None else None
        return Items(of_program(self.memory.region, parameters or ()))

    def memory_use(self, device: Device | None = None) -> MemoryUse:
        """Return the bytes that one device needs, by the model of the compiler of the device.

        device: None for XLA on an H100. Without a model of its compiler, the bytes are the framework peak.
        """
        from costax.performance.memory import XLA_GPU_H100, compiler_model
        from costax.performance.protocols import MemoryUse

        model = XLA_GPU_H100 if device is None else compiler_model(device)
        share = f", split evenly over {self.devices} devices" if self.even_share else ""
        if model is None:
            peak = self.memory.framework_peak
            parts = self.memory.parts
            parts = {**parts, "temporaries": max(peak - parts["arguments"] - parts["results"], 0)}
            name = device.name if device else ""
            source = f"framework peak{share}: costax has no memory model of the compiler for {name}"
            allocated = parts["results"] + parts["temporaries"]
            return MemoryUse(peak, parts, source, allocated, bounds=(parts["arguments"] + parts["results"], peak))
        profile = self.memory.compiled_by(model)
        parts, (least, most) = profile.parts, profile.bounds
        unmodelled = profile.doubts
        if self.even_share:
            # The share of the arguments is known; how much of the rest a device gathers is the partitioner's choice.
            unmodelled = (*unmodelled, "what the partitioner gathers")
            most = parts["arguments"] + self.devices * (most - parts["arguments"])
        allocated = parts["results"] + parts["temporaries"]
        source = f"fused estimate{share}, {model.name}"
        return MemoryUse(profile.fused_estimate, parts, source, allocated, unmodelled, bounds=(least, most))

    @property
    def peak_bytes(self) -> Count:
        """The framework peak in bytes: the peak of live bytes if every equation writes its result to a buffer."""
        return self.memory.framework_peak

    @property
    def fused_peak_bytes(self) -> Count:
        """The fused estimate in bytes: the expected memory of the compiled program, which fuses elementwise chains."""
        return self.memory.fused_estimate

    def memory_timeline(self, *, fused: bool = False) -> list[TimelinePoint]:
        """Return the live buffers at each step of the program.

        Args:
            fused: With fusion, as the compiled program is expected to run.
        """
        return Items(self.memory.timeline(fused=fused))

    def live_at_peak(self, n: int | None = 10, *, fused: bool = False) -> list[Buffer]:
        """Return the `n` largest live buffers at the peak: scope, shape, source line, and why each is still alive.

        Args:
            n: How many.
            fused: Those at the peak of the fused estimate, else at the framework peak.
        """
        return Items(self.memory.live_at_peak(n, fused=fused))

    def saved_residuals(self) -> list[Residual]:
        """Return the arrays that the forward pass saves for the backward pass."""
        from costax.performance.memory import residuals

        return Items(residuals(self.memory.region))

    def whole_tree(self) -> Node:
        """Return the tree of equations. Raises InputError for an analysis that was loaded from a record."""
        tree = self._traced.tree
        if tree is None:
            raise InputError(
                f"`{self.name}` has no equations: it was loaded from a record, or its formulas were evaluated.",
                why="Memory and activations are computed from the equations.",
                cure="Analyse the program again: costax.analyze(fn)(*args).",
            )
        return tree

    @cached_property
    def _traced(self) -> Self:
        """The analysis itself, or if its formulas were evaluated the program analysed again with these values."""
        evaluated = self.tree is None and self.retrace is not None and not self.symbols
        return self.retrace({}) if evaluated and self.retrace else self

    def is_parameter(self) -> tuple[bool, ...]:
        """Return for each input whether it is a parameter."""
        parameters = self.program.parameters if self.program is not None else None
        positions = {parameter.position for parameter in parameters or ()}
        return tuple(position in positions for position in range(len(self.inputs)))

    # Symbols.

    @cached_property
    def atoms(self) -> Mapping[str, Atom]:
        """The symbols of the inputs, of loops of unknown length and of the total, by name.

        A symbol that occurs with several lower bounds has the largest of them.
        """
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
        """The sorted names of all symbols in counts and shapes, those of loops of unknown length included."""
        return tuple(self.atoms)
