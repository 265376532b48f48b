"""The stages of XLA: lower a program and compile it, for this machine or ahead of time for a named device."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from costax import _jax
from costax.compare.ahead_of_time import Machine, compile_in_child, of_size
from costax.compare.dumping import dump_options
from costax.core.interrupts import while_compiling
from costax.core.progress import stage
from costax.errors import InputError, TargetError

PROPERTIES: Final = ("flops", "transcendentals", "bytes accessed")
"""The keys of XLA's dictionary that costax reads; XLA leaves a key out where the property is 0."""


@dataclass(frozen=True, slots=True)
class XlaStage:
    """The output of XLA at one stage: the HLO, and what XLA reports of it.

    hlo: a serialized module. xla: the compiler's own dictionary, with every key of PROPERTIES; where the compiler of a
    GPU gives none, that of the CPU client for the same HLO. memory: bytes of one device, by category; empty for a
    lowered program. seconds: how long the stage took. meshes: those that the program is sharded over. devices: how many
    devices run it. jax_stage: the `jax.stages` object. note: which options the compiler needed beyond the usual ones,
    and why. assignment: XLA's buffer assignment, serialised; b"" without one.
    """

    hlo: bytes = field(repr=False)
    xla: Mapping[str, float] | None
    memory: Mapping[str, int]
    seconds: float
    meshes: Sequence[Mapping[str, int]] = ()
    jax_stage: Any = field(default=None, repr=False)
    note: str = ""
    devices: int = 1
    assignment: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Lowering:
    """A program that jax lowered to StableHLO, and the seconds that this took."""

    jax_stage: Any = field(repr=False)
    seconds: float


def lower(traced: Any, jaxpr: Any, name: str, machine: Machine | None = None) -> XlaStage:
    """Return a traced program before optimisation, with `jaxpr` in place of its own.

    machine: the device to lower for; None for the CPU of this machine. Raises TargetError if jax does not lower it.
    """
    return converted(lowering(traced, jaxpr, name, machine), name, machine)


@stage("lowering")
def lowering(traced: Any, jaxpr: Any, name: str, machine: Machine | None = None) -> Lowering:
    """Return the StableHLO of a program: the first half of `lower`, which jax does."""
    start = time.perf_counter()
    with _as_target_errors(f"jax does not lower `{name}` for {_device_name(machine)}"):
        lowered = _jax.lower(traced, jaxpr, machine.platform if machine else "cpu")
    return Lowering(lowered, time.perf_counter() - start)


@stage("converting")
def converted(stablehlo: Lowering, name: str, machine: Machine | None = None) -> XlaStage:
    """Return the HLO of a lowered program, and what XLA reports of it: the second half of `lower`, which XLA does."""
    with _as_target_errors(f"jax does not lower `{name}` for {_device_name(machine)}"), while_compiling():
        hlo = _jax.hlo_of(stablehlo.jax_stage)
        # `Lowered.cost_analysis()` returns the same and would convert to HLO again, which is the slowest step.
        xla = _cleaned(_jax.xla_cost(hlo))
    meshes, devices = _jax.meshes(stablehlo.jax_stage), _jax.partitions(stablehlo.jax_stage)
    return XlaStage(hlo, xla, {}, stablehlo.seconds, meshes, stablehlo.jax_stage, devices=devices)


def _check_devices(lowered: XlaStage, devices: int, name: str, machine: Machine | None) -> None:
    """Raise TargetError if a lowered program is not for the devices of its mesh. devices: how many the mesh has.

    jax would compile the program for one device, whose count is that of no device of the mesh.
    """
    named = _jax.assigned_devices(lowered.jax_stage)
    if (lowered.devices if named is None else named) >= devices and not (named is None and machine is None):
        return
    what = f"`{name}` is sharded over an abstract mesh of {devices} devices"
    if machine is not None:
        raise TargetError(
            f"{what} inside the program alone, so jax lowers it for one device.",
            why="jax takes the devices of a program from the shardings of its arguments and results.",
            cure="Give an argument a sharding on that mesh: "
            "jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, PartitionSpec())).",
        )
    raise TargetError(
        f"{what}, which names no devices of this machine.",
        why="XLA for the CPU compiles for the devices of this process.",
        cure=f"Make the mesh of devices: start with XLA_FLAGS=--xla_force_host_platform_device_count={devices} and "
        "use jax.make_mesh(...). Or compile for a machine that need not be present, such as "
        f"{of_size('cuda:h100', devices)} or {of_size('tpu:v5e', devices)}.",
    )


@stage("compiling")
def compile_stage(
    lowered: XlaStage,
    name: str,
    machine: Machine | None,
    timeout: float,
    dump: str = "",
    flags: Mapping[str, str] | None = None,
    devices: int = 1,
) -> XlaStage:
    """Return the program of a lowered stage after optimisation.

    timeout: seconds that an ahead-of-time compiler may take. dump: a folder where XLA writes the module after every
    pass; "" for none. flags: options of XLA. devices: of the mesh of the program. Raises TargetError if XLA does not
    compile the program for them.
    """
    _check_devices(lowered, devices, name, machine)
    if machine is not None:
        built = compile_in_child(lowered.jax_stage, machine, name, timeout, dump, flags)
        xla = _cleaned(_jax.xla_cost(built.hlo) if built.cost is None else built.cost)
        memory = {**built.memory, "device": machine.memory} if machine.memory else built.memory
        devices = lowered.devices
        return XlaStage(built.hlo, xla, memory, built.seconds, lowered.meshes, note=built.note, devices=devices)
    start = time.perf_counter()
    with _as_target_errors(f"XLA does not compile `{name}`"):
        texts = {**dump_options(dump), **(flags or {})}
        # In this process XLA takes booleans as such.
        options = {name: {"true": True, "false": False}.get(text, text) for name, text in texts.items()}
        try:
            with while_compiling():
                compiled = _jax.compiled(lowered.jax_stage, options, anew=bool(dump))
        except _jax.XlaError as error:
            _check_options(error, flags or {})
            raise
    seconds = time.perf_counter() - start
    xla = _cleaned(compiled.cost_analysis())
    hlo, memory = _jax.hlo_of(compiled), _jax.memory(compiled)
    assignment = _jax.buffer_assignment(compiled)
    return XlaStage(hlo, xla, memory, seconds, lowered.meshes, compiled, devices=lowered.devices, assignment=assignment)


def _check_options(error: Exception, flags: Mapping[str, str]) -> None:
    """Raise InputError if XLA rejects an option."""
    fault = re.search(r"No such compile option.*|While setting option.*", str(error))
    if flags and fault:
        raise InputError(
            f"XLA does not take an option: {fault[0]}",
            why=f"These were set: {', '.join(f'{name}={value}' for name, value in flags.items())}.",
            cure="Correct its name or value; the options that XLA takes change between versions.",
        ) from error


@contextmanager
def _as_target_errors(what: str) -> Generator[None]:
    """Raise the errors of jax and XLA as TargetError. what: the first words of the message."""
    try:
        yield
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise TargetError(
            f"{what}: {(str(error).strip().splitlines() or [type(error).__name__])[0]}",
            why="Without a compiled program there is nothing to compare with.",
            cure="Use costax analyze for the count of the jaxpr, which needs no compiler.",
        ) from error


def _device_name(machine: Machine | None) -> str:
    return machine.name if machine else "the CPU"


def _cleaned(reported: Mapping[str, float] | Sequence[Mapping[str, float]] | None) -> Mapping[str, float] | None:
    """Return XLA's dictionary with the properties that XLA leaves out because they are 0; None where there is none."""
    if reported is None:
        return None
    # jax returned a list of one dictionary before 0.4.38, and may again for programs of several modules.
    first = reported if isinstance(reported, Mapping) else reported[0]
    return {**dict.fromkeys(PROPERTIES, 0.0), **first}
