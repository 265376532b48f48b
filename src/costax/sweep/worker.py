"""The analysis of one point, which runs in the processes of a sweep."""

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

# The counts in a result.
MEASURED: Final = (*FIELDS, "params", "param_bytes")
Result = dict[str, Any]
# Fingerprint of a program -> its counts, for programs that this process has analysed.
_SEEN: Final[dict[str, dict[str, Any]]] = {}
_REMEMBERED: Final = 4096


def analyzed(
    make: Callable[..., Any], point: Mapping[str, Any], options: Mapping[str, Any], claims: str | None = None
) -> Result:
    """Return the result of a point: its counts, or its error.

    claims: a directory in which each process of a sweep creates a folder for every program that it analyses. If another
    process has created the folder, the program is not analysed again, and the result has `same_as`.
    """
    started = time.perf_counter()
    result: Result = {"point": dict(point), "error": None, "program": None, "analysed": False}
    try:
        result.update(_counts(make, point, options, claims))
    except (Exception, SystemExit) as error:
        # Any exception of a user's `make` is the result of this point and must not stop the others.
        result["error"] = _text_of(error)
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

    target = _as_target(make(**point))
    with warnings.catch_warnings():
        # The column `exact` shows whether something was not counted.
        warnings.simplefilter("ignore")
        if symbolic_arguments(target, (), {}) is not None:
            return {**_measured(analyze(target, **options)()), "analysed": True}
        program = trace(target, (), {})
        parameters = [parameter.position for parameter in program.parameters or ()]
        # The fingerprint depends on the options and on which inputs are parameters, as the counts do.
        context = (parameters if program.parameters is not None else None, sorted(options.items(), key=str))
        fingerprint = _jax.fingerprint(program.jaxpr, context)
        if fingerprint in _SEEN:
            return {**_SEEN[fingerprint], "program": fingerprint}
        if claims is not None and not _claimed(claims, fingerprint):
            return {"program": fingerprint, "same_as": fingerprint}
        try:
            counts = _measured(analyze_traced(program, **options))
        except Exception as error:  # an error of the program, the same for all points with this program
            counts = {"error": _text_of(error)}
    if len(_SEEN) < _REMEMBERED:
        _SEEN[fingerprint] = counts
    return {**counts, "program": fingerprint, "analysed": True}


def _measured(analysis: Any) -> dict[str, Any]:
    counts = {name: getattr(analysis.total, name) for name in FIELDS}
    counts |= {"params": analysis.params, "param_bytes": analysis.param_bytes, "exact": analysis.exact}
    return {name: value if isinstance(value, int | bool | None) else str(value) for name, value in counts.items()}


def _as_target(value: Any) -> Any:
    """Return the value that `make` returned as a Target. Raises SweepError for another value."""
    from costax.program.trace import Target

    if isinstance(value, Target):
        return value
    parts: Sequence[Any] = cast("Sequence[Any]", value) if type(value) is tuple else list[Any]()
    args: Any = parts[1] if len(parts) in (2, 3) else None
    if not isinstance(args, tuple | list):
        raise SweepError(
            f"`make` must return a program with its arguments, and returned {value!r:.80}.",
            why="Each point of a sweep is one program.",
            cure="Return (fn, args), (fn, args, kwargs) or costax.Target(fn, args, kwargs).",
        )
    return Target(parts[0], cast("Sequence[Any]", args), parts[2] if len(parts) == 3 else {})


def _text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


def _claimed(claims: str, fingerprint: str) -> bool:
    """Claim a program for this process. Return False if another process has claimed it."""
    try:
        Path(claims, fingerprint).mkdir(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:
        # This machine does not share the disk, so the program is analysed again.
        return True
    return True
