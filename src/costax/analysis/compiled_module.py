"""A module of HLO as a program: its counts, its kernels and its memory, as `predict`, `fits` and `diff` take them."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from costax import _jax
from costax.analysis.budgets import Budget, check_compiled
from costax.analysis.compiled_counts import COMPILED, counted_once
from costax.analysis.compiled_summary import BufferPlace, BufferSum, CompiledSummary
from costax.core import dtypes
from costax.core.cost import ARITHMETIC, BYTES_SENT, INTEGER, MAC, TRANSCENDENTAL, Cost, Count
from costax.core.equation import Operand
from costax.core.listing import listed, shown
from costax.core.printable import printable
from costax.errors import InputError, Missing
from costax.hlo.backend import backend_of
from costax.hlo.buffer_assignment import read_assignment
from costax.hlo.buffer_assignment_text import beside, stem_of
from costax.hlo.collectives import Collective, by_layer, collective, sent_as
from costax.hlo.consumers import fusions
from costax.hlo.devices import with_devices
from costax.hlo.dump_folder import module_in
from costax.hlo.files import ModuleFile, read_module_file
from costax.hlo.live_ranges import estimated_memory
from costax.hlo.memory_report import reported_memory
from costax.hlo.metadata import BACKWARD, OUTSIDE, Scopes, Site, Sources
from costax.hlo.module_analysis import InstructionCost, ModuleAnalysis, analyze_bytes, named_after
from costax.hlo.module_memory import ARGUMENTS, CONSTANTS, RESULTS, TEMPORARIES, LiveBuffer, ModuleMemory
from costax.hlo.replay import Properties
from costax.performance.compiled_kernels import ExecutedInstruction, contracts, of_module
from costax.performance.hardware import Device
from costax.performance.kernels import Kernel
from costax.performance.memory import Buffer
from costax.performance.protocols import MemoryUse

if TYPE_CHECKING:
    from costax.analysis.utilisation import Utilisation

FUSED: Final = "XLA's own fusions, read from the module"
UNFUSED: Final = (
    "the instructions of the module, one kernel each: it is not optimised, so XLA has not fused any of them"
)


@dataclass(frozen=True, repr=False)
class CompiledModule(ModuleAnalysis):
    """The analysis of a module that can be predicted, fitted into memory and compared with another one.

    assignment: XLA's buffer assignment, serialised; b"" without one. path: the file that it was read from, beside which
    a dump may have the buffer assignment as text. platform: the kind of machine that a `jax.stages.Compiled` is for; ""
    where the module itself must tell it. reported: the sizes that XLA gave without a buffer assignment.
    """

    assignment: bytes = field(default=b"", repr=False)
    path: Path | None = None
    platform: str = ""
    reported: ModuleMemory | None = field(default=None, repr=False)

    @property
    def analysis(self) -> ModuleCounts:
        """The counts of the module under the names that predictions use."""
        return self._counts

    @cached_property
    def _counts(self) -> ModuleCounts:
        return ModuleCounts(self)

    @property
    def kernel_source(self) -> str:
        """The origin of the kernels, as the end of a sentence "The kernels are ..."."""
        split = f", nor split the program over its {self.unsplit} devices" if self.unsplit else ""
        if self.replay.module.run_on.count is None:
            split += "; it does not say how many devices run it, so the figures are of one"
        loops = self.unknown_loops
        once = "".join(f"; {sentence}" for sentence in counted_once(loops))
        once += f" (set it with --trips {printable(loops[0].name)}=N)" if loops else ""
        return (FUSED if self.is_optimized else UNFUSED) + split + once

    @property
    def compiled_for(self) -> str | None:
        """The kind of machine that XLA compiled the module for: "cpu", "gpu", "tpu", or "" if nothing tells it.

        None before optimisation, where XLA has chosen no kernels.
        """
        return (self.platform or backend_of(self.replay.module, self.path)) if self.is_optimized else None

    @property
    def executed_flops(self) -> None:
        """None: the counts of a module are what one device executes."""
        return

    @listed
    def kernels(self) -> list[Kernel]:
        """Return XLA's fusions, and the other instructions that run as one kernel each.

        Before optimisation each instruction is a kernel of its own.
        """
        return list(self._kernels)

    @cached_property
    def _kernels(self) -> tuple[Kernel, ...]:
        collectives = {x.name: x for x in self.collectives}
        return tuple(of_module(self.replay.module, self.executed_instructions, collectives))

    @cached_property
    def executed_instructions(self) -> tuple[ExecutedInstruction, ...]:
        """The instructions that run, each with its scope, its direction, its source line and the work of one run.

        An instruction of a function that is called from several scopes is there once for each.
        """
        scopes, sources = self._scopes, Sources(self.replay.module)
        every = chain.from_iterable(cost.by_site() for cost in self.instruction_costs)
        placed = [(site, cost) for site, cost in every if cost.runs]
        layers = [scopes.layer(cost.computation, cost.instruction, site) for site, cost in placed]
        differentiated = any(direction == BACKWARD for _, direction in layers)
        outside = OUTSIDE if differentiated else ""
        return tuple(
            ExecutedInstruction(
                cost.computation,
                cost.instruction,
                cost.runs,
                _once(cost),
                scope,
                direction or outside,
                sources.of(cost.instruction),
                cost.cost.executed.flops + cost.cost.executed.transcendentals,
                bool(cost.instruction.raw_metadata),
                site,
            )
            for (site, cost), (scope, direction) in zip(placed, layers, strict=True)
        )

    @cached_property
    @listed
    def collectives(self) -> tuple[Collective, ...]:
        """The collectives of one device, in the order of the module."""
        module = self.replay.module
        meshes = module.run_on.meshes or ({"devices": module.devices},)
        scopes, sources, around = self._scopes, Sources(module), fusions(module)
        runs: dict[int, Counter[Site | None]] = defaultdict(Counter)
        for x in self.executed_instructions:
            runs[id(x.instruction)][x.site] += x.runs
        found: list[Collective] = []
        for computation in reversed(list(module.computations.values())):
            fusion = around.get(computation.id)
            for ins in computation.instructions:
                opcode = sent_as(ins, computation)
                executed = runs[id(fusion if fusion is not None and id(ins) not in runs else ins)]
                for site, times in executed.items() if opcode else ():
                    scope, source = "/".join(scopes.layer(computation, ins, site)[0]), sources.of(ins)
                    parts = [(size, ("/".join(x), "")) for size, x in scopes.served(computation, ins, fusion)]
                    found.append(collective(ins, meshes, times, scope, source, opcode).shared(parts))
        return tuple(found)

    # Memory.

    @cached_property
    def memory(self) -> ModuleMemory:
        """The memory of one device: XLA's buffer assignment or report where there is one, else an estimate.

        Raises HloError for a damaged buffer assignment.
        """
        module, found = self.replay.module, None
        if self.assignment:
            found = read_assignment(self.assignment, module)
        elif self.reported is not None:
            found = self.reported
        elif self.path is not None:
            found = beside(self.path).memory(module)
        if found is not None and (not found.temporaries or any(x.kind == TEMPORARIES for x in found.alive)):
            return found
        estimate = estimated_memory(module, self.replay.cost_model)
        if found is None and self.path is not None:
            found = reported_memory(stem_of(self.path), estimate)
        if found is None:
            return estimate
        # XLA's sizes, without the heap trace that tells what is alive at the peak.
        return replace(found, alive=estimate.alive, timeline=estimate.timeline, alive_source=estimate.source)

    def memory_use(self, device: Device | None = None) -> MemoryUse:
        """Return the bytes of memory that one device needs, for the device that the module is compiled for.

        Args:
            device: Not used: the module is compiled for its device.
        """
        memory = self.memory
        results, temporaries = memory.parts.get(RESULTS, 0), memory.temporaries
        parts = {name: size for name, size in memory.parts.items() if size or name in (ARGUMENTS, TEMPORARIES)}
        whole = f", of {self.extent}" if self.unsplit else ""
        return MemoryUse(memory.needed, parts, memory.source + whole, results + temporaries)

    @listed
    def live_at_peak(self, n: int | None = 10) -> list[Buffer]:
        """Return the `n` largest buffers that are alive at the peak, the largest first; None: all.

        Args:
            n: How many; None for all.
        """
        scopes, sources = self._scopes, Sources(self.replay.module)
        return [_buffer(x, scopes, sources) for x in self.memory.alive[:n]]

    @listed
    def live_by_scope(self, depth: int | None = None) -> dict[str, int]:
        """Return the bytes alive at the peak of each scope, of all kinds of buffers.

        Args:
            depth: Levels of scopes; by default all.
        """
        return self._live(lambda b: "/".join([x for x in b.scope.split("/") if x][:depth]))

    def live_by_source(self) -> dict[str, int]:
        """Return the bytes alive at the peak of each source line, or of each argument."""
        return self._live(lambda b: b.source)

    def _live(self, key: Callable[[Buffer], str]) -> dict[str, int]:
        sums: dict[str, int] = {}
        for buffer in self.live_at_peak(None):
            sums[key(buffer)] = sums.get(key(buffer), 0) + buffer.nbytes
        return sums

    # Counts that budgets and thresholds name.

    def compiled_counts(self) -> dict[str, Count]:
        """Return the counts of `costax.analysis.compiled_counts.COMPILED`, of one device."""
        return {
            "executed_flops": self.executed.flops,
            "hbm_bytes": self.executed.bytes,
            "collective_bytes": sum((x.sent or 0) * x.executed for x in self.collectives),
            "temp_bytes": self.memory.temporaries,
            "kernels": sum(kernel.times for kernel in self.kernels()),
        }

    @listed
    def counts_by_scope(self, depth: int | None = None) -> dict[str, dict[str, Count]]:
        """Return the same counts of each scope of at most `depth` parts; they sum to those of the module.

        Args:
            depth: Levels of scopes; by default all.
        """
        sums: dict[str, Counter[str]] = {}

        def add(scope: Iterable[str], field: str, count: Count) -> None:
            sums.setdefault("/".join(list(scope)[:depth]), Counter())[field] += count

        for x in self.executed_instructions:
            add(x.scope, "executed_flops", x.once.flops * x.runs)
            add(x.scope, "hbm_bytes", x.once.bytes * x.runs)
        for part in chain.from_iterable(map(by_layer, self.collectives)):
            scope = [name for name in part.scope.split("/") if name]
            add(scope, "collective_bytes", (part.sent or 0) * part.executed)
        for kernel in self.kernels():
            add(kernel.scope, "kernels", kernel.times)
        temporaries = [x for x in self.memory.alive if x.kind == TEMPORARIES]
        scopes = self._scopes
        for x in temporaries:
            known = x.instruction is not None and x.computation is not None
            add(scopes.layer(x.computation, x.instruction)[0] if known else (), "temp_bytes", x.nbytes)  # type: ignore[arg-type]
        # Rounding of runs that are not whole, alignment and fragmentation.
        for field_, count in self.compiled_counts().items():
            rest = count - sum(part[field_] for part in sums.values())
            if rest:
                add((), field_, rest)
        return {scope: {name: counts[name] for name in COMPILED} for scope, counts in sums.items()}

    @property
    def summary(self) -> CompiledSummary:
        """The counts by layer and the buffers alive at the peak, as a diff compares them and a record keeps them."""
        return self._summary

    @cached_property
    def _summary(self) -> CompiledSummary:
        sums: dict[BufferPlace, BufferSum] = {}
        for b in self.live_at_peak(None):
            place = BufferPlace(b.scope, b.source, f"{b.dtype}[{','.join(map(str, b.shape))}]")
            number, nbytes = sums.get(place, BufferSum())
            sums[place] = BufferSum(number + 1, nbytes + b.nbytes)
        source, counts = self.memory.source, self.counts_by_scope()
        return CompiledSummary(self.name, self.extent, source, self.unknown_loops, counts, shown(sums))

    def check(self, budget: Budget) -> None:
        """Raise BudgetError if the module costs more than a budget, whose fields are those of `compiled_counts`.

        Args:
            budget: The limits.
        """
        __tracebackhide__ = True  # pytest then shows the line of the test
        check_compiled(self, budget)

    def mfu(
        self,
        seconds: float,
        device: str | Device,
        *,
        devices: int | None = None,
        tokens: int | None = None,
        peak: str | None = None,
    ) -> Utilisation:
        """Return the share of the peak of a step that took so many seconds: HFU, because a module has no model FLOPs.

        The arguments and errors are those of `Analysis.mfu`.

        Args:
            seconds: Time of one step, measured.
            device: As `costax.predict` takes it.
            devices: How many ran the step; by default those that the module states. A module that states no number is
                the program of one of them.
            tokens: That all of them processed in the step.
            peak: The peak to divide by, as for `Analysis.mfu`.
        """
        from costax.analysis.module_utilisation import module_utilisation

        return module_utilisation(self, seconds, device, devices=devices, tokens=tokens, peak=peak)

    def what_if(self, **_: Any) -> Any:
        """Raise InputError: a module does not say which of its arguments are weights."""
        raise InputError(
            f"What-if does not apply to the module `{self.name}`.",
            why="Quantisation and pruning change weights; a module does not say which of its arguments are weights.",
            cure="Pass the program itself: costax.analyze(fn)(*args).what_if(...).",
        )


@dataclass(frozen=True)
class ModuleCounts:
    """The counts of a module under the names of an Analysis; see `costax.performance.protocols.Counted`."""

    module: CompiledModule

    @property
    def name(self) -> str:
        """The name of the module."""
        return self.module.name

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of the packages that read the module."""
        return self.module.versions

    @property
    def inputs(self) -> tuple[tuple[str, Operand], ...]:
        """The arguments of one device as (name, shape and dtype)."""
        return tuple(
            (x.op_name or x.name, Operand(leaf.dims, leaf.dtype))
            for x in self.module.replay.module.entry.parameters
            for leaf in x.shape.arrays()
        )

    def is_parameter(self) -> tuple[bool, ...]:
        """Return False for each argument: a module does not say which of them are parameters."""
        return (False,) * len(self.inputs)

    @property
    def symbols(self) -> tuple[str, ...]:
        """None: the shapes of a module are numbers."""
        return ()

    @property
    def total(self) -> Cost:
        """The executed work of all devices together."""
        return self.per_device * self.devices

    @property
    def devices(self) -> int:
        """How many devices run the module; 1 if XLA has not split it over them yet."""
        return 1 if self.module.unsplit else self.module.replay.module.devices

    @property
    def even_share(self) -> bool:
        """False: a module is that of one device."""
        return False

    @property
    def per_device(self) -> Cost:
        """The executed work of one device, by kind and dtype."""
        return self._per_device

    @cached_property
    def _per_device(self) -> Cost:
        sent = sum((x.sent or 0) * x.executed for x in self.module.collectives)
        return Cost.sum(map(_cost, self.module.executed_instructions)) + Cost.of(BYTES_SENT, "u8", sent)

    @property
    def hardware_flops(self) -> Count:
        """FLOPs that one device executes, as XLA counts them: work on integers is included."""
        return self.module.executed.flops

    @property
    def traffic(self) -> dict[str, Count]:
        """Bytes of each argument and each result once."""
        memory = self.module.memory
        return {"compulsory": memory.parts.get(ARGUMENTS, 0) + memory.parts.get(RESULTS, 0) + memory.aliased}

    @property
    def exact(self) -> bool:
        """Whether every trip count and the work of every library call are known."""
        return self.module.exact

    @property
    def uncounted(self) -> tuple[Missing, ...]:
        """Library calls whose work is unknown."""
        return tuple(
            Missing(target, "", "", "", "", count, "a library call") for target, count in self.module.opaque.items()
        )

    @property
    def parameters(self) -> None:
        """None: a module does not say which of its arguments are parameters."""
        return

    @property
    def memory(self) -> None:
        """None: a module has no equations. `CompiledModule.memory` has its buffers."""
        return

    @property
    def peak_bytes(self) -> Count:
        """Bytes of memory that one device needs."""
        return self.module.memory.needed

    def by_direction(self) -> dict[str, Cost]:
        """Return the executed work of one device in each direction."""
        sums: dict[str, list[Cost]] = defaultdict(list)
        for x in self.module.executed_instructions:
            sums[x.direction].append(_cost(x))
        return {direction: Cost.sum(costs) * self.devices for direction, costs in sums.items()}


def analyze_file(path: str | Path, trips: Mapping[str, int] | None = None) -> CompiledModule:
    """Return the analysis of the HLO module in a file; see `costax.hlo.module_analysis.analyze_module`.

    path: of a file, or of a folder that XLA dumped into, of which the largest module is read.
    """
    if Path(path).is_dir():
        path = module_in(path).path
    with named_after(path):
        return of_module_file(read_module_file(path), trips, Path(path))


def of_module_file(
    file: ModuleFile, trips: Mapping[str, int] | None = None, path: Path | None = None
) -> CompiledModule:
    """Return the analysis of a serialised module with its buffer assignment."""
    return of_analysis(analyze_bytes(file.hlo, trips), file.buffer_assignment, path)


def of_module_at(target: Any, trips: Mapping[str, int] | None = None) -> CompiledModule:
    """Return the analysis of the module in a file, or in a `jax.stages.Lowered` or `Compiled`."""
    if isinstance(target, str | os.PathLike):
        return analyze_file(os.fspath(target), trips)
    return of_stage(target, trips)


def of_stage(stage: Any, trips: Mapping[str, int] | None = None) -> CompiledModule:
    """Return the analysis of the module in a `jax.stages.Lowered` or `Compiled`, with XLA's buffer assignment."""
    partitions = _jax.partitions(stage) if _jax.is_lowered(stage) else 0
    hlo = with_devices(_jax.hlo_of(stage), (1, partitions) if partitions else None)
    module = of_module_file(ModuleFile(hlo, _jax.buffer_assignment(stage)), trips)
    return replace(module, platform=_jax.platform_of(stage))


def of_analysis(analysis: ModuleAnalysis, assignment: bytes = b"", path: Path | None = None) -> CompiledModule:
    """Return the analysis of a module as a program."""
    values = {x.name: getattr(analysis, x.name) for x in fields(ModuleAnalysis)}
    return CompiledModule(**values, assignment=assignment, path=path)


def _once(cost: InstructionCost) -> Properties:
    executed = cost.cost.executed
    return Properties(*(count // cost.runs for count in executed))


def _cost(x: ExecutedInstruction) -> Cost:
    """Return the executed work of an instruction by kind and dtype; of a contraction half the FLOPs are MACs."""
    ins, flops = x.instruction, x.once.flops * x.runs
    dtype = next((leaf.dtype for leaf in ins.shape.arrays()), "f32")
    transcendentals = x.once.transcendentals * x.runs
    if contracts(ins, flops):
        counts = {(MAC, dtype): flops // 2, (ARITHMETIC, dtype): flops % 2}
    else:
        counts = {(ARITHMETIC if dtypes.is_floating(dtype) else INTEGER, dtype): flops}
    return Cost({**counts, (TRANSCENDENTAL, dtype): transcendentals})


_WHY: Final = {
    ARGUMENTS: "an argument",
    RESULTS: "a result",
    CONSTANTS: "a constant",
    TEMPORARIES: "a temporary",
}


def _buffer(live: LiveBuffer, scopes: Scopes, sources: Sources) -> Buffer:
    ins, computation = live.instruction, live.computation
    scope, _ = scopes.layer(computation, ins) if ins is not None and computation is not None else ((), "")
    is_tuple = live.shape.startswith("(")
    dtype, _, extents = ("tuple", "", "") if is_tuple else live.shape.partition("[")
    shape = tuple(int(x) for x in extents.rstrip("]").split(",") if x.isdecimal())
    source = sources.of(ins) if ins is not None else ""
    if live.kind == ARGUMENTS and ins is not None:
        source = ins.op_name or live.name
    return Buffer(
        live.nbytes,
        dtype,
        shape,
        "/".join(scope),
        ins.opcode if ins is not None else "",
        source,
        f"{_WHY.get(live.kind, live.kind)}: {live.label}",
    )
