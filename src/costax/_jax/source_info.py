"""The origin of an equation: its name stack, and the user's file and line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
from jax._src import source_info_util as _sources

from costax._jax.jaxprs import Eqn
from costax.core.source_lines import LibraryLine, is_installed

# Untyped, because jax's annotations are incomplete.
_api: Any = jax
_frames: Any = _sources

_OWN_FILES = f"{Path(__file__).parents[1]}{os.sep}"


def name_stack(eqn: Eqn) -> Any:
    """Return the name stack of an equation; many equations share one object."""
    return eqn.source_info.name_stack


def name_stack_parts(stack: Any) -> list[tuple[bool, str]]:
    """Return (whether it is a transform, its name) for each part of a name stack, outermost first."""
    return [(isinstance(part, _sources.Transform), part.name) for part in stack.stack]


def source(eqn: Eqn, own: str = "") -> str:
    """Return the user's file and line of an equation as `path:line`.

    It is the innermost frame outside installed packages and the standard library, else a `LibraryLine`: the innermost
    one of a library other than jax, or "" if there is none. own: the folder or file of an installed package that is the
    user's, too. Frames outside the function or body that the equation stands in do not count: they may be those of
    another program, because jax caches traces.
    """
    traceback = eqn.source_info.traceback
    if traceback is None:
        return ""
    library = ""
    codes, instructions = traceback.raw_frames()
    for code, instruction in zip(codes, instructions, strict=True):
        known = _lines.get((id(code), instruction))
        if known is None:
            # The key is the code's id, because hashing code objects is slow. Keep the code alive: ids can be reused.
            known = _lines[id(code), instruction] = (_line(code, instruction), code)
        line = known[0]
        if line is None:
            break
        if line and (not isinstance(line, LibraryLine) or (own and line.startswith(own))):
            return str(line)
        library = library or line
    return library


_lines: dict[tuple[int, int], tuple[str | None, Any]] = {}
# Before jax 0.10 a traceback has the frames outside a traced function, too, below one of these.
_TRACES = ("trace_to_jaxpr", "trace_to_jaxpr_dynamic")


def _line(code: Any, instruction: int) -> str | None:
    """Return the line of a frame, "" for one of jax, None for that which traces the function above it."""
    if not is_user_file(code.co_filename):
        return None if code.co_name in _TRACES and code.co_filename.endswith("partial_eval.py") else ""
    line = f"{code.co_filename}:{_frames.xla_client.Traceback.code_addr2line(code, instruction)}"
    return LibraryLine(line) if is_installed(code.co_filename) else line


def is_user_file(filename: str) -> bool:
    """Say whether a file belongs to neither jax, costax, torch nor torchax, but to the user or to another library."""
    return _sources.is_user_filename(filename) and not filename.startswith((_OWN_FILES, *_torch_files()))


def _torch_files() -> list[str]:
    """Return the folders of torch and of torchax, whose frames lie between a line of a model and its equations."""
    names = [name for name in ("torch", "torchax") if sys.modules.get(name) is not None]
    return [f"{folder}{os.sep}" for name in names for folder in sys.modules[name].__path__]


# A part of the key of jax's trace caches. Created once, because each new user context empties these caches.
_SCOPES_OF = _api.make_user_context(None)


def separate_trace_cache(key: Hashable) -> AbstractContextManager[None]:
    """Return a context in which jax caches traces separately, by a key.

    costax adds the scopes of layers to traces; without this context, the user's own code would find these traces in
    jax's cache.
    """
    return _SCOPES_OF(key)


def without_named_scope(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that `@jax.named_scope(...)` decorates, or the function itself if it is not decorated."""
    # Before jax 0.10 the wrapper comes from contextlib, and only the context manager in its closure is jax's.
    cells = getattr(function, "__closure__", None) or ()
    decorated = any(isinstance(cell.cell_contents, _sources.ExtendNameStackContextManager) for cell in cells)
    return getattr(function, "__wrapped__", function) if decorated else function


def current_scope() -> tuple[str, ...]:
    """Return the path of the name stack of the current trace, without transforms."""
    stack: Any = _sources.current_name_stack()
    names = (name for transform, name in name_stack_parts(stack) if not transform)
    return tuple(part for name in names for part in name.split("/") if part)
