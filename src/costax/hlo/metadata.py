"""Where an instruction comes from, by what its module says: the scope of its name and the user's source line."""

from __future__ import annotations

from collections import defaultdict
from os.path import normpath
from typing import Final

from costax.hlo.records import Computation, Instruction, Module

# A tower of calls could make names without end.
_DEEPEST_SCOPE: Final = 100


class Scopes:
    """The scopes of the names that jax gave: `jit(step)/layer_1/dot_general` lies in `layer_1`.

    Before optimisation the names in a shared function are relative to its call; they are joined where all its calls
    have one name.
    """

    def __init__(self, module: Module) -> None:
        """Follow the calls of a module once."""
        names = (split(ins.op_name) for ins in module.entry.instructions)
        self._root = next((name[0] for name in names if name and name[0].startswith(("jit(", "pjit(", "pmap("))), "")
        self._prefixes: dict[int, tuple[str, ...]] = {}
        self._known: dict[tuple[int, str], tuple[str, ...]] = {}
        callers: dict[int, set[tuple[str, ...]]] = defaultdict(set)
        # Callers stand behind their callees.
        for computation in reversed(list(module.computations.values())):
            found = callers.pop(computation.id, set())
            self._prefixes[computation.id] = found.pop() if len(found) == 1 else ()
            for ins in computation.instructions:
                for callee in ins.called if ins.opcode in ("call", "while", "conditional") else ():
                    callers[callee.id].add(self._whole(computation, ins.op_name))

    def of(self, computation: Computation, ins: Instruction) -> tuple[str, ...]:
        """Return the scope of an instruction, outermost part first."""
        name = ins.op_name
        found = self._known.get((computation.id, name))
        if found is None:
            scope = self._whole(computation, name)[:-1]
            found = self._known[computation.id, name] = scope[1:] if scope[:1] == (self._root,) else scope
        return found

    def _whole(self, computation: Computation, name: str) -> tuple[str, ...]:
        parts = split(name)
        if parts[:1] == (self._root,):
            return parts
        return (*self._prefixes[computation.id], *parts)[:_DEEPEST_SCOPE]


def split(name: str) -> tuple[str, ...]:
    """Return the parts of an operation's name; a slash in brackets belongs to its part.

    >>> split("jit(f)/transpose(jvp(a/b))/mul")
    ('jit(f)', 'transpose(jvp(a/b))', 'mul')
    """
    parts, depth, start = list[str](), 0, 0
    for i, sign in enumerate(name):
        depth += (sign in "([") - (sign in ")]")
        if sign == "/" and depth <= 0:
            parts.append(name[start:i])
            start = i + 1
    return tuple(part for part in (*parts, name[start:]) if part)


class Sources:
    """The source lines of instructions: the innermost frame that is no installed package's."""

    def __init__(self, module: Module) -> None:
        """Take the module whose stack frames they are."""
        self._module = module
        self._known: dict[int, str] = {}

    def of(self, ins: Instruction) -> str:
        """Return `file:line`, "" where XLA kept none."""
        metadata = ins.metadata
        if not metadata.stack_frame_id:
            return f"{metadata.source_file}:{metadata.source_line}" if metadata.source_file else ""
        found = self._known.get(metadata.stack_frame_id)
        if found is None:
            frames = self._module.stack(metadata.stack_frame_id)
            own = (frame for frame in frames if not _is_installed(frame.file))
            frame = next(own, frames[0] if frames else None)
            found = f"{normpath(frame.file)}:{frame.line}" if frame else ""
            self._known[metadata.stack_frame_id] = found
        return found


def _is_installed(file: str) -> bool:
    # The file may come from another machine: only its path can tell.
    return any(part in file for part in ("site-packages/", "dist-packages/", "site-packages\\"))
