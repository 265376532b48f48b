"""One point: made, traced, analysed. This is what runs in the processes of a sweep."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from costax.core.cost import FIELDS
from costax.errors import SweepError

# What a result says of an analysis.
MEASURED: Final = (*FIELDS, "params", "param_bytes")
Result = dict[str, Any]
# By fingerprint: what this process has analysed.
_SEEN: Final[dict[str, dict[str, Any]]] = {}
_REMEMBERED: Final = 4096


def analyzed(
    make: Callable[..., Any], point: Mapping[str, Any], options: Mapping[str, Any], claims: str | None = None
) -> Result:
    """Return the result of a point: its counts, or the error that it ended with.

    claims: a directory in which the processes of a sweep say which programs they analyse. A program that another one
    has claimed is not analysed again: the result says `same_as`.
    """
    started = time.perf_counter()
    result: Result = {"point": dict(point), "error": None, "program": None, "analysed": False}
    try:
        result.update(_counts(make, point, options, claims))
    except Exception as error:  # whatever a user's `make` may raise belongs to its point, and stops no other
        result["error"] = _said(error)
    result["seconds"] = round(time.perf_counter() - started, 4)
    result["process"] = os.getpid()
    return result


def _counts(
    make: Callable[..., Any], point: Mapping[str, Any], options: Mapping[str, Any], claims: str | None
) -> Result:
    from costax import _jax
    from costax.analysis.analyze import analyze, analyze_traced
    from costax.analysis.symbolic import symbolic_arguments
    from costax.program.trace import trace

    target = _made(make(**point))
    with warnings.catch_warnings():
        # What is not counted is seen in `exact`.
        warnings.simplefilter("ignore")
        if symbolic_arguments(target, (), {}) is not None:
            return {**_measured(analyze(target, **options)()), "analysed": True}
        program = trace(target, (), {})
        parameters = [parameter.position for parameter in program.parameters or ()]
        # The same program with other options, or other inputs for parameters, is analysed on its own.
        more = (parameters if program.parameters is not None else None, sorted(options.items(), key=str))
        fingerprint = _jax.fingerprint(program.jaxpr, more)
        if fingerprint in _SEEN:
            return {**_SEEN[fingerprint], "program": fingerprint}
        if claims is not None and not _claimed(claims, fingerprint):
            return {"program": fingerprint, "same_as": fingerprint}
        try:
            counts = _measured(analyze_traced(program, **options))
        except Exception as error:  # of the program, whichever point it is of
            counts = {"error": _said(error)}
    if len(_SEEN) < _REMEMBERED:
        _SEEN[fingerprint] = counts
    return {**counts, "program": fingerprint, "analysed": True}


def _measured(analysis: Any) -> dict[str, Any]:
    counts = {name: getattr(analysis.total, name) for name in FIELDS}
    counts |= {"params": analysis.params, "param_bytes": analysis.param_bytes, "exact": analysis.exact}
    return {name: value if isinstance(value, int | bool | None) else str(value) for name, value in counts.items()}


def _made(made: Any) -> Any:
    """Return what `make` returned as a Target."""
    from costax.program.trace import Target

    if isinstance(made, Target):
        return made
    parts: Sequence[Any] = cast("Sequence[Any]", made) if type(made) is tuple else list[Any]()
    args: Any = parts[1] if len(parts) in (2, 3) else None
    if not isinstance(args, tuple | list):
        raise SweepError(
            f"`make` returned {made!r:.80}.",
            why="A point of a sweep is a program with its arguments.",
            cure="Return (fn, args), (fn, args, kwargs) or costax.Target(fn, args, kwargs).",
        )
    return Target(parts[0], cast("Sequence[Any]", args), parts[2] if len(parts) == 3 else {})


def _said(error: Exception) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


def _claimed(claims: str, fingerprint: str) -> bool:
    """Claim a program for this process; say False where another one has it already."""
    try:
        Path(claims, fingerprint).mkdir(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:
        # Another machine's disk: the program is analysed here too.
        return True
    return True
