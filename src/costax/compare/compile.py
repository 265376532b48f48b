"""The stages of XLA: a program lowered, and compiled, on this machine or ahead of time for a named one."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from costax import _jax
from costax.compare.ahead_of_time import Machine, compile_in_child
from costax.core.progress import stage
from costax.errors import TargetError

PROPERTIES: Final = ("flops", "transcendentals", "bytes accessed")
"""What every dictionary of XLA's tells, if only by leaving it out."""


@dataclass(frozen=True, slots=True)
class XlaStage:
    """What XLA made at one stage: the HLO, and what it says of it.

    xla: the compiler's own dictionary, every key of PROPERTIES in it; where a GPU's compiler gives none, that of the
    CPU's client for the same HLO.
    memory: in bytes, for one device; empty for a lowered program. seconds: how long it took. meshes: that the program
    is sharded over. note: what was done otherwise than usual to compile it.
    """

    hlo: bytes = field(repr=False)
    xla: Mapping[str, float] | None
    memory: Mapping[str, int]
    seconds: float
    meshes: Sequence[Mapping[str, int]] = ()
    made: Any = field(default=None, repr=False)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Lowering:
    """A program as jax lowered it, to StableHLO, and the seconds that it took."""

    made: Any = field(repr=False)
    seconds: float


def lower(traced: Any, jaxpr: Any, name: str, machine: Machine | None = None) -> XlaStage:
    """Return a traced program, with this jaxpr in it, before optimisation; without a machine for this one's CPU.

    Raises TargetError where jax does not lower it.
    """
    return converted(lowering(traced, jaxpr, name, machine), name, machine)


@stage("lowering")
def lowering(traced: Any, jaxpr: Any, name: str, machine: Machine | None = None) -> Lowering:
    """Return the first half of `lower`, which is jax's: StableHLO."""
    start = time.perf_counter()
    with _told(f"jax does not lower `{name}` for {_place(machine)}"):
        made = _jax.lower(traced, jaxpr, machine.platform if machine else "cpu")
    return Lowering(made, time.perf_counter() - start)


@stage("converting")
def converted(found: Lowering, name: str, machine: Machine | None = None) -> XlaStage:
    """Return the second half of `lower`, which is XLA's: HLO, and what XLA says of it."""
    with _told(f"jax does not lower `{name}` for {_place(machine)}"):
        hlo = _jax.hlo_of(found.made)
        # `Lowered.cost_analysis()` says the same and would make the HLO anew, which takes the most time of all.
        xla = _cleaned(_jax.xla_cost(hlo))
    return XlaStage(hlo, xla, {}, found.seconds, _jax.meshes(found.made), found.made)


@stage("compiling")
def compile_stage(lowered: XlaStage, name: str, machine: Machine | None, timeout: float) -> XlaStage:
    """Return the program of a lowered stage after optimisation.

    timeout: seconds that a compiler ahead of time may take. Raises TargetError where XLA does not compile it.
    """
    if machine is not None:
        built = compile_in_child(lowered.made, machine, name, timeout)
        xla = _cleaned(_jax.xla_cost(built.hlo) if built.cost is None else built.cost)
        memory = {**built.memory, "device": machine.memory} if machine.memory else built.memory
        return XlaStage(built.hlo, xla, memory, built.seconds, lowered.meshes, note=built.note)
    start = time.perf_counter()
    with _told(f"XLA does not compile `{name}`"):
        made = lowered.made.compile()
    seconds = time.perf_counter() - start
    return XlaStage(_jax.hlo_of(made), _cleaned(made.cost_analysis()), _jax.memory(made), seconds, lowered.meshes, made)


@contextmanager
def _told(what: str) -> Generator[None]:
    """Turn the errors of jax and XLA into ours."""
    try:
        yield
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise TargetError(
            f"{what}: {(str(error).strip().splitlines() or [type(error).__name__])[0]}",
            why="Without a compiled program there is nothing to compare with.",
            cure="Use costax analyze for the count of the jaxpr, which needs no compiler.",
        ) from error


def _place(machine: Machine | None) -> str:
    return machine.name if machine else "the CPU"


def _cleaned(found: Mapping[str, float] | Sequence[Mapping[str, float]] | None) -> Mapping[str, float] | None:
    """Return XLA's dictionary with the properties that it leaves out, which are 0; None where there is none."""
    if found is None:
        return None
    # jax returned a list of one before 0.4.38, and may again for programs of several modules.
    first = found if isinstance(found, Mapping) else found[0]
    return {**dict.fromkeys(PROPERTIES, 0.0), **first}
