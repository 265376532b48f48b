"""The conditions of a sweep: all that its results depend on beside the point, so that a file never mixes two sweeps."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Conditions = Mapping[str, Mapping[str, str]]
"""Texts by name, in four groups: "function", "options", "sources" (of the files of the study) and "versions"."""


def conditions(make: Callable[..., Any], options: Mapping[str, Any]) -> Conditions:
    """Return the conditions of a sweep.

    make: the function that builds the programs. Its sources are its file and the files that it imports from beside it,
    found by their `import` statements; a module that is loaded in another way is not seen. options: of `analyze`.
    """
    inner, bound = _unwrapped(make)
    study = getattr(make, "study", None) or f"{inner.__module__}:{getattr(inner, '__qualname__', inner)}"
    return {
        "function": {"name": study, **({"arguments": bound} if bound else {})},
        "options": {name: _text(value) for name, value in sorted(options.items()) if value not in ({}, None)},
        "sources": _sources(inner, study),
        "versions": {name: importlib.metadata.version(name) for name in ("costax", "jax")},
    }


def differences(then: Conditions, now: Conditions) -> list[str]:
    """Return what differs between two sweeps, one sentence each."""
    return [
        _difference(group, name, then.get(group, {}).get(name), now.get(group, {}).get(name))
        for group in dict.fromkeys([*then, *now])
        for name in dict.fromkeys([*then.get(group, {}), *now.get(group, {})])
        if then.get(group, {}).get(name) != now.get(group, {}).get(name)
    ]


def _difference(group: str, name: str, then: str | None, now: str | None) -> str:
    if group == "sources":
        return f"the source of {name} has changed"
    words = {"function": f"the {name} of the function", "options": f"the option `{name}`"}
    return f"{words.get(group, f'the version of {name}')} was {then or 'not given'} and is {now or 'not given'}"


def _unwrapped(make: Callable[..., Any]) -> tuple[Any, str]:
    """Return the function in a partial or bound one, and a text of its arguments and of what it takes from outside."""
    bound: list[str] = []
    inner: Any = make
    while isinstance(inner, functools.partial):
        bound.append(f"{inner.args} {sorted(inner.keywords.items())}")
        inner = inner.func
    inner = inspect.unwrap(inner)
    for cell in getattr(inner, "__closure__", None) or ():
        value: object = cell.cell_contents
        if isinstance(value, str | int | float | bool | None):
            bound.append(repr(value))
    return inner, "; ".join(bound)


def _text(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError):
        return repr(value)


def _sources(make: Any, study: str) -> dict[str, str]:
    """Return a digest of each file of a study; of its code, if it has no file."""
    path = _file(make, study)
    if path is None:
        code = getattr(make, "__code__", None)
        return {} if code is None else {"the function": _digest(code.co_code + repr(code.co_consts).encode())}
    root = path.parent
    while (root / "__init__.py").exists():
        root = root.parent
    return {file.relative_to(root).as_posix(): _digest(file.read_bytes()) for file in sorted(_imported(path, root))}


def _file(make: Any, study: str) -> Path | None:
    module = study.rpartition(":")[0]
    if module.endswith(".py"):
        return Path(module).resolve()
    try:
        found = inspect.getsourcefile(make)
    except TypeError:
        # An object with `study` is no function; its module is imported already.
        spec = importlib.util.find_spec(module)
        found = spec.origin if spec else None
    # A notebook's function has a file that does not exist.
    return Path(found).resolve() if found and Path(found).is_file() else None


def _imported(path: Path, root: Path) -> set[Path]:
    """Return a file and those that it imports, directly or not, from the folder of the study or its package."""
    package = path.relative_to(root).parts[0] if path.parent != root else ""
    found, pending = {path}, [path]
    while pending:
        file = pending.pop()
        for name in _names(file, root):
            if package and name.partition(".")[0] != package:
                continue
            for other in _files(name.split("."), root):
                if other not in found:
                    found.add(other)
                    pending.append(other)
    return found


def _names(file: Path, root: Path) -> Iterator[str]:
    """Yield the modules that a file names in its `import` statements, and what it takes from them."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    around = file.relative_to(root).parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = around[: len(around) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _files(parts: list[str], root: Path) -> Iterator[Path]:
    """Yield the files that importing a module runs, if they are in the folder."""
    for i in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:i])
        yield from (file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
