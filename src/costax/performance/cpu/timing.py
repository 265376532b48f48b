"""The time of a kernel on a calibrated CPU: its steps, the bytes that it moves, and its start.

Processor time is that of all threads together; it is what a calibration measures, for on a machine with other work
wall time depends on the neighbours. The expected seconds divide it by the number of threads that share such a step on
an idle machine, which the calibration reads from the threads' own clocks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from costax.core.cost import Count
from costax.hlo.records import Instruction
from costax.performance.cpu import of_instructions, of_ops
from costax.performance.cpu.rates import UNKNOWN, interpolated, seconds_of
from costax.performance.cpu.steps import Step
from costax.performance.hardware import Device
from costax.performance.kernels import (
    LIBRARY,
    MATMUL_UNIT,
    MEMORY,
    TRANSCENDENTAL_UNIT,
    VECTOR_UNIT,
    Kernel,
)

# Between these factors lies the time to move bytes: whether they are in a cache depends on what ran before.
_MEMORY_SPREAD: Final = (0.4, 2.0)
_UNCOMPILED_SPREAD: Final = (0.5, 2.0)
_LAUNCH_SPREAD: Final = (0.5, 2.0)
_OVERLAPPED: Final = ("product", "convolution")
_LIBRARY: Final = ("sort", "fft", "library")


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Processor seconds of one run of a kernel.

    terms: by unit. best, worst: of all. unmeasured: tables that the calibration lacks, and instructions without a step.
    share: how many threads share the work on an idle machine. waiting: routines whose threads wait actively for each
    other, so that they take many times as long on a busy machine.
    """

    terms: dict[str, float]
    launch: float
    best: float
    worst: float
    unmeasured: tuple[str, ...] = field(default=())
    share: float = 1.0
    waiting: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """The expected processor seconds."""
        return self.launch + sum(self.terms.values())


def steps_of(kernel: Kernel) -> tuple[Sequence[Step], Sequence[str]]:
    """Return the steps of a kernel, and what no step describes."""
    if isinstance(kernel.origin, Instruction):
        return of_instructions.steps_of(kernel.origin)
    return of_ops.steps_of(kernel.origin) if kernel.origin else ((), ())


def cpu_time(device: Device, kernel: Kernel, working_set: Count = 0, *, without: str = "") -> CpuTime:
    """Return the processor time of one run of a kernel.

    working_set: bytes of the program. without: leave out the steps whose tables begin so, which a calibration is about
    to measure.
    """
    steps, unknown = steps_of(kernel)
    terms: dict[str, float] = defaultdict(float)
    low = high = 0.0
    unmeasured = list(unknown)
    tables: dict[str, float] = defaultdict(float)
    for step in steps:
        if without and step.table.startswith(without):
            continue
        time = seconds_of(device, step)
        terms[_unit(step.table)] += time.seconds
        tables[step.table] += time.seconds
        low, high = low + time.low, high + time.high
        if not time.measured:
            unmeasured.append(f"{step.table} ({step.dtype})")
    memory = 0.0 if without == "memory" else _memory(device, kernel, working_set)
    arithmetic = terms.get(MATMUL_UNIT, 0.0)
    # A product or a convolution loads its operands while it computes; what loading takes beyond that counts.
    memory = max(memory - arithmetic, 0.0)
    if memory:
        terms[MEMORY] = memory
    launch = launch_of(device, kernel)
    low += memory * _MEMORY_SPREAD[0] + launch * _LAUNCH_SPREAD[0]
    high += memory * _MEMORY_SPREAD[1] + launch * _LAUNCH_SPREAD[1]
    if unknown:
        # Nothing tells how long an unknown library call takes; it reads and writes its arrays at least once.
        high += UNKNOWN[1] * max(memory, launch)
    largest = max(tables, key=lambda name: tables[name], default="elementwise")
    if not isinstance(kernel.origin, Instruction):
        # The fusions, copies and rewrites of the compiler are not known.
        low, high = low * _UNCOMPILED_SPREAD[0], high * _UNCOMPILED_SPREAD[1]
    shares = device.rates.get("parallel", {})
    share = float(shares.get(largest, shares.get(largest.partition(".")[0], 1.0)))
    waiting = tuple(step.table.rpartition(".")[2] for step in steps if step.is_threaded)
    return CpuTime(dict(terms), launch, low, high, tuple(dict.fromkeys(unmeasured)), share, waiting)


def launch_name(kernel: Kernel) -> str:
    """Return the name of the rate of starting a kernel; a kernel in a small call is a part of its function."""
    if kernel.inlined:
        return "inlined"
    if kernel.is_library and not any(step.table.startswith(_OVERLAPPED) for step in steps_of(kernel)[0]):
        return "shared" if uses_threads(kernel) else "library"
    return (
        "divided" if isinstance(kernel.origin, Instruction) and of_instructions.is_divided(kernel.origin) else "seconds"
    )


def launch_of(device: Device, kernel: Kernel) -> float:
    """Return the seconds to start a kernel."""
    rates = device.rates.get("launch", {})
    name = launch_name(kernel)
    return float(
        rates.get(name, rates.get("library" if name == "shared" else "seconds", 0.0) if name != "inlined" else 0)
    )


def uses_threads(kernel: Kernel) -> bool:
    """Say whether other threads take a part of a kernel, whose waking and waiting is processor time too.

    XLA writes into a module which of its own loops are divided; its libraries divide whatever is large.
    """
    if kernel.origin is None:
        return False
    if not isinstance(kernel.origin, Instruction):
        return kernel.moved >= _DIVIDED
    if of_instructions.is_divided(kernel.origin):
        return True
    if not kernel.is_library and kernel.origin.opcode not in _SHARED:
        return False
    flops = max((x.units for x in steps_of(kernel)[0] if x.table.startswith(_OVERLAPPED)), default=0.0)
    return flops >= _DIVIDED_FLOPS or sum(of_instructions.moved(kernel.origin)) >= _DIVIDED


def waiting(kernels: Sequence[tuple[Kernel, float, float]], most: float, processors: float) -> float:
    """Return the processor seconds in which threads that have no work wait actively for some.

    A thread looks for its next part for a while before it sleeps, and that is processor time. kernels: in the order in
    which they run, each with its processor seconds and its seconds. most: seconds that all threads but one wait
    together for a part that does not come.
    """
    total = idle = 0.0
    shared = 0.0  # how often the last kernel that threads share runs
    for kernel, processor, seconds in kernels:
        times = float(kernel.times)
        # While a kernel runs, so much time of all processors has no work.
        rest = max(processors * seconds - processor, 0.0)
        if uses_threads(kernel):
            # In a loop what lies before the first such kernel follows the last one of the iteration before.
            total += min(idle / (shared or times), most) * (shared or times - 1)
            idle, shared = rest * times, times
        else:
            idle += rest * times
    return total + min(idle / shared, most) * shared if shared else 0.0


# Instructions that XLA computes with a library of its own.
_SHARED: Final = ("dot", "convolution", "sort", "fft")
# Bytes and FLOPs from which XLA divides a kernel among threads, for programs that are not compiled and its libraries.
_DIVIDED: Final = 2**18
_DIVIDED_FLOPS: Final = 1e6


def _unit(table: str) -> str:
    family, _, rest = table.partition(".")
    if family in _OVERLAPPED:
        return MATMUL_UNIT
    if family in _LIBRARY:
        return LIBRARY
    if family == "elementwise" and rest not in ("add", "convert", "multiply", "divide"):
        return TRANSCENDENTAL_UNIT
    return VECTOR_UNIT


def _memory(device: Device, kernel: Kernel, working_set: Count) -> float:
    """Return the seconds to move a kernel's bytes.

    An argument was used a whole call ago, or an iteration of the loop around the kernel, and comes from the cache level
    that holds so much. Other bytes were written by a kernel shortly before.
    """
    curve = device.rates.get("memory")
    if not curve:
        return 0.0
    if isinstance(kernel.origin, Instruction):
        moved, read = of_instructions.moved(kernel.origin)
        far = min(int(kernel.uncached_bytes), read)
    else:
        moved, far = int(kernel.moved), int(min(kernel.uncached_bytes, kernel.moved))
    distance = float(kernel.reuse_distance or working_set)
    far = far if distance > moved else 0
    near = moved - far
    pairs = cast("Sequence[Sequence[float]]", curve)
    seconds = near / interpolated(pairs, max(moved, 1)) if near else 0.0
    return seconds + (far / interpolated(pairs, distance) if far else 0.0)


def allocation(device: Device, nbytes: Count) -> float:
    """Return the seconds to allocate the results and temporaries of a call."""
    curve = device.rates.get("allocation")
    return (
        float(nbytes) / interpolated(cast("Sequence[Sequence[float]]", curve), float(nbytes))
        if curve and nbytes
        else 0.0
    )
