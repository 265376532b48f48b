"""The modules of a program that a trace may belong to: of a file, a dumped folder, a comparison, or the trace."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from costax import _jax
from costax.analysis.analysis import Analysis
from costax.analysis.compiled_module import of_stage
from costax.errors import InputError
from costax.hlo.module_analysis import ModuleAnalysis, analyze_bytes, analyze_module, analyze_replay
from costax.measure.join.matching import Candidate
from costax.measure.traces.records import ModuleName, Trace, numbered

# `module_0040.jit_step.sm_8.0_gpu_after_optimizations.hlo.pb.xz`, or `.txt`.
_DUMPED: Final = re.compile(
    r"module_(\d+)\.(.+?)\.(?:[\w.\-]*[._])?after_optimizations(?P<suffix>(?:\.hlo)?\.(?:pb|txt)(?:\.(?:xz|gz))?)"
)

Load = Callable[..., ModuleAnalysis]


def candidates_of(program: Any) -> list[Candidate]:
    """Return the modules of a program. Raises InputError for a value that is none, HloError for a damaged file."""
    if program is None:
        return []
    if isinstance(program, ModuleAnalysis):
        return [Candidate(numbered(program.name), program.name, partial(_again, program))]
    if isinstance(program, str | Path):
        path = Path(program)
        return _of_folder(path) if path.is_dir() else [_of_file(path, "")]
    if isinstance(program, Analysis):
        return [_compiled(program)]
    if _jax.is_compiled(program):
        stage = of_stage(program)
        return [Candidate(numbered(stage.name), f"the compiled program: {stage.name}", partial(_again, stage))]
    replay = getattr(getattr(program, "compiled", None), "replay", None)
    if replay is not None:
        name = replay.module.name
        return [Candidate(numbered(name), f"the comparison: {name}", partial(analyze_replay, replay, b""))]
    raise InputError(
        f"A value of type {type(program).__name__} cannot be joined with a trace.",
        why="The join needs the instructions of a compiled module.",
        cure="Pass costax.compare(fn)(*args), costax.analyze(fn)(*args), a jax.stages.Compiled, the path of an HLO "
        "file, or None.",
    )


def embedded_in(trace: Trace) -> dict[ModuleName, Candidate]:
    """Return the modules that a trace embeds, by name."""
    return {
        name: Candidate(name, f"the trace: {name}", partial(analyze_bytes, hlo)) for name, hlo in trace.modules.items()
    }


def _again(analysis: ModuleAnalysis, trips: Mapping[str, int] | None = None) -> ModuleAnalysis:
    return analyze_replay(analysis.replay, analysis.hlo, trips) if trips else analysis


def _compiled(analysis: Analysis) -> Candidate:
    program = analysis.program
    executable = _jax.Executable(program.traced, program.jaxpr)
    name = f"{analysis.name}, compiled here"
    return Candidate(numbered(analysis.name), name, partial(analyze_bytes, executable.hlo))


def _of_file(path: Path, program: str) -> Candidate:
    # The file names its module; the name in the trace is that of the module inside.
    analysis = analyze_module(path)
    return Candidate(numbered(analysis.name, program), str(path), partial(_again, analysis))


def _of_folder(folder: Path) -> list[Candidate]:
    """Return the optimised modules of a folder; a module is read when it is looked at."""
    found: dict[str, Path] = {}
    names: dict[str, ModuleName] = {}
    for path in sorted(folder.rglob("module_*")):
        match = _DUMPED.fullmatch(path.name)
        if match and path.is_file():
            stem = str(path).removesuffix(match["suffix"])
            names[stem] = ModuleName(match[2], str(int(match[1])))
            # A proto is read without XLA's parser.
            if ".pb" in match["suffix"] or stem not in found:
                found[stem] = path
    if not found:
        raise InputError(
            f"There is no optimised module in {str(folder)!r}.",
            why="A trace has the instructions of the module after optimisation, ...after_optimizations.hlo.pb or .txt.",
            cure='Dump it in the profiled process: XLA_FLAGS="--xla_dump_to=DIR --xla_dump_hlo_as_proto".',
        )
    return [Candidate(names[stem], str(path), partial(analyze_module, path)) for stem, path in found.items()]
