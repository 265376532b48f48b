"""Folders that XLA dumped into: the file of one module, as `XLA_FLAGS=--xla_dump_to=DIR` writes it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from costax.errors import HloError

_MODULE: Final = re.compile(
    r"(?P<module>.+?)\.(?:(?P<before>before_optimizations)|(?:\w+_)?after_optimizations)"
    r"\.(?P<form>hlo\.pb|pb|hlo|txt)(?:\.(?:xz|gz))?"
)
_LISTED: Final = 12


class FolderModule(NamedTuple):
    """A module of a folder: its name in the dump, the file to read, and the names of all modules."""

    name: str
    path: Path
    names: tuple[str, ...]


def module_in(folder: str | Path, name: str | None = None) -> FolderModule:
    """Return one module of a folder: after optimisation where that was dumped, serialised rather than as text.

    name: a part of the module's name; without it the largest module. Raises HloError for a folder without a module, and
    for a name that no module or several modules have.
    """
    files: dict[str, list[tuple[bool, bool, Path]]] = {}
    folder = Path(folder)
    try:
        paths = sorted(folder.iterdir())
    except OSError as fault:
        raise HloError(f"{folder} cannot be read: {fault.strerror or fault}", cure="Check the path.") from fault
    for path in paths:
        if match := _MODULE.fullmatch(path.name):
            rank = (match["before"] is not None, match["form"] in ("hlo", "txt"), path)
            files.setdefault(match["module"], []).append(rank)
    if not files:
        raise _empty(folder, paths)
    best = {module: min(found)[2] for module, found in files.items()}
    matching = [module for module in best if name is None or name in module]
    exact = [module for module in matching if module == name]
    if name is not None and len(exact or matching) != 1:
        raise _unclear(folder, name, matching, list(best))
    # Modules before optimisation stand behind those after it: a dump of both has the size of each stage.
    chosen = max(exact or matching, key=lambda module: best[module].stat().st_size)
    return FolderModule(chosen, best[chosen], tuple(best))


def _empty(folder: Path, paths: list[Path]) -> HloError:
    kinds = Counter("".join(path.suffixes[-2:]) or "(no suffix)" for path in paths)
    held = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3))
    return HloError(
        f"The folder {str(folder)!r} holds no HLO module: {held or 'it is empty'}",
        where=str(folder),
        why="XLA calls the modules NAME.before_optimizations.hlo.pb and NAME.cpu_after_optimizations.hlo.pb, or .txt.",
        cure="Dump them: XLA_FLAGS='--xla_dump_to=DIR --xla_dump_hlo_as_proto'. Pass other files by their own path.",
    )


def _unclear(folder: Path, name: str, matching: list[str], names: list[str]) -> HloError:
    listed = matching or names
    shown = ", ".join(listed[:_LISTED]) + (f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else "")
    fault = f"{len(matching)} modules have" if matching else "No module has"
    return HloError(
        f"{fault} {name!r} in the name",
        where=str(folder),
        why="Each compilation of a function is a module of its own, with the same name and another number."
        if matching
        else "",
        cure=f"Name one of these in full: {shown}. Without a name, the largest is taken.",
    )
