"""The compiled program of a comparison as a module alone: its counts have the names and scopes that HLO gives them."""

from __future__ import annotations

from dataclasses import replace

from costax.analysis.compiled_module import CompiledModule, of_analysis
from costax.compare.stage_costs import StageCost
from costax.hlo.module_analysis import analyze_replay
from costax.hlo.module_memory import ARGUMENTS, RESULTS, TEMPORARIES, ModuleMemory


def as_module(compiled: StageCost, target: str) -> CompiledModule:
    """Return the module of a compiled stage, with the trip counts that the program told of its loops."""
    module = analyze_replay(compiled.replay, b"")
    told = {loop.name: loop.trips for loop in compiled.loops if loop.trips is not None}
    trips = {loop.name: told[loop.name] for loop in module.unknown_loops if loop.name in told}
    if trips:
        module = analyze_replay(compiled.replay, b"", trips)
    return replace(of_analysis(module, compiled.assignment), reported=_memory(compiled, target))


def _memory(compiled: StageCost, target: str) -> ModuleMemory | None:
    """Return the sizes that XLA reports; None where it reports none."""
    sizes = compiled.memory
    if "temp" not in sizes:
        return None
    aliased = sizes.get("alias", 0)
    results = sizes.get("output", 0) - aliased
    parts = {ARGUMENTS: sizes.get("argument", 0), RESULTS: results, TEMPORARIES: sizes["temp"]}
    return ModuleMemory(f"XLA for {target}", is_estimate=False, parts=parts, aliased=aliased)
