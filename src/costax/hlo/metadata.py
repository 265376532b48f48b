"""The origin of an instruction, from the metadata of its module: the user's scope and source line."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from os.path import normpath
from typing import Final

from costax.core.cost import Count
from costax.core.source_lines import is_installed
from costax.hlo.consumers import consumers, is_resharding, served
from costax.hlo.records import Computation, Instruction, Module

FORWARD, BACKWARD, RECOMPUTE = "forward", "backward", "recompute"
OUTSIDE: Final = "outside the gradient"
"""The direction of what is not differentiated, in a module with a backward pass: preparation, and the update."""
# Names that jax adds to a scope: transformations around it, functions, and control flow between scopes.
_TRANSFORM: Final = re.compile(r"([a-z_]+)\((.*)\)", re.DOTALL)
_FUNCTIONS: Final = frozenset({"jit", "pjit", "pmap", "xmap", "checkpoint", "remat"})
_JOINED: Final = re.compile(r";(?=p?jit\()")
MARK: Final = re.compile(r"~\d+~")
"""A mark by which `costax.compare` names an equation: `jit(f)/~0~/layer/~12~/dot_general`."""
_REMATTED: Final = "rematted_computation"
_EVALUATED: Final = "eval_jaxpr"
_CONTROL: Final = re.compile(
    rf"while|body|cond|closed_call|{_EVALUATED}|checkpoint|remat|branch_\d+_fun|shard_map|custom_[jv]vp_call\w*|~|.*->.*|{_REMATTED}"
)
# In a damaged file, nested calls could make the joined names grow without bound.
_MAX_SCOPE_DEPTH: Final = 100


class Scopes:
    """The scopes of instructions, from jax's operation names: `jit(step)/layer_1/dot_general` is in `layer_1`.

    Before optimisation, the names inside a shared function are relative to its call site. They are joined with the name
    of the call site if all calls have the same name.
    """

    def __init__(self, module: Module) -> None:
        """Compute the name prefix of every computation of a module from its call sites."""
        names = (split(ins.op_name) for ins in module.entry.instructions)
        self._root = next((name[0] for name in names if name and name[0].startswith(("jit(", "pjit(", "pmap("))), "")
        self._prefixes: dict[int, tuple[str, ...]] = {}
        self._known: dict[tuple[int, str], tuple[str, ...]] = {}
        self._layers: dict[tuple[int, str], tuple[tuple[str, ...], str]] = {}
        callers: dict[int, set[tuple[str, ...]]] = defaultdict(set)
        # A module lists callees before callers: in reverse, all callers of a computation come before it.
        for computation in reversed(list(module.computations.values())):
            scopes = callers.pop(computation.id, set())
            self._prefixes[computation.id] = scopes.pop() if len(scopes) == 1 else ()
            for ins in computation.instructions:
                for callee in ins.called if ins.opcode in ("call", "while", "conditional") else ():
                    callers[callee.id].add(self._whole(computation, ins.op_name))

    def of(self, computation: Computation, ins: Instruction) -> tuple[str, ...]:
        """Return the scope of an instruction, outermost part first."""
        name = ins.op_name
        scope = self._known.get((computation.id, name))
        if scope is None:
            path = tuple(part for part in self._whole(computation, name)[:-1] if not MARK.fullmatch(part))
            scope = self._known[computation.id, name] = path[1:] if path[:1] == (self._root,) else path
        return scope

    def layer(self, computation: Computation, ins: Instruction) -> tuple[tuple[str, ...], str]:
        """Return the scope of the user and the direction of an instruction, as `layer_of` reads its name.

        What the partitioner moves for an instruction belongs to that instruction.
        """
        if is_resharding(ins):
            ins, computation = next(consumers(ins, computation, self._is_jaxs), (ins, computation))
        name = ins.op_name
        found = self._layers.get((computation.id, name))
        if found is None:
            # XLA joins the names of instructions that it merges: `jit(f)/a/add;jit(f)/b/mul`. The first one counts.
            first = _JOINED.split(name, maxsplit=1)[0]
            found = self._layers[computation.id, name] = layer_of(self._whole(computation, first)[:-1])
        return found

    def served(
        self, computation: Computation, ins: Instruction, fusion: Instruction | None = None
    ) -> list[tuple[Count, tuple[str, ...]]]:
        """Return the bytes and the layer of each part of a combined collective; [] for other instructions."""
        found = served(ins, computation, self._is_jaxs, fusion)
        parts = [(size, next(iter(x), (ins, computation))) for size, x in found]
        return [(size, self.layer(inside, first)[0]) for size, (first, inside) in parts]

    def _is_jaxs(self, ins: Instruction) -> bool:
        return split(ins.op_name)[:1] == (self._root,)

    def _whole(self, computation: Computation, name: str) -> tuple[str, ...]:
        parts = split(name)
        if parts[:1] == (self._root,):
            return parts
        return (*self._prefixes[computation.id], *parts)[:_MAX_SCOPE_DEPTH]


def split(name: str) -> tuple[str, ...]:
    """Split an operation name at its slashes, except for slashes in parentheses or brackets.

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


def layer_of(names: Iterable[str]) -> tuple[tuple[str, ...], str]:
    """Return the scope of the user in the parts of an operation name without the primitive, and the direction.

    Transformations, functions and control flow are left out of the scope. The direction is "forward", "backward" or
    "recompute"; "" outside of a gradient.

    >>> layer_of(split("jit(step)/transpose(jvp(net))/while/body/layer_1"))
    (('net', 'layer_1'), 'backward')
    >>> layer_of(split("jit(step)/jvp()/while/body/eval_jaxpr/net/mlp/net/mlp/jit(relu)"))
    (('net', 'mlp'), 'forward')
    """
    path: list[str] = []
    transforms: list[str] = []
    rematted, body = False, None
    for part in names:
        body = len(path) if part == _EVALUATED else body
        wrapped = False
        while (match := _TRANSFORM.fullmatch(part)) and match[1] not in _FUNCTIONS:
            transforms.append(match[1])
            wrapped, part = wrapped or match[1] == "jvp", match[2]
        if match is not None:
            # jax 0.12 writes the scopes in the body of a scan twice before a function with its own derivative.
            inside = path[body:] if body is not None else []
            if inside and inside[: len(inside) // 2] * 2 == inside:
                path = path[: -len(inside) // 2]
            continue
        # A transformation may contain several names, `jvp(encoder/layer_0)`, or none, `jvp()`.
        inside = [x for x in part.split("/") if x and not (_CONTROL.fullmatch(x) or MARK.fullmatch(x))]
        rematted = rematted or _REMATTED in part
        # The name of a backward operation of a rematerialised function has the scope twice.
        path = inside if wrapped and inside and path[: len(inside)] == inside else [*path, *inside]
    backward = "transpose" in transforms and "jvp" in transforms[transforms.index("transpose") :]
    direction = RECOMPUTE if rematted else BACKWARD if backward else FORWARD if "jvp" in transforms else ""
    return tuple(path), direction


class Sources:
    """The source lines of instructions: the innermost stack frame outside installed packages."""

    def __init__(self, module: Module) -> None:
        """Take the module, which holds the stack frames."""
        self._module = module
        self._known: dict[int, str] = {}

    def of(self, ins: Instruction) -> str:
        """Return `file:line` of an instruction, or "" if it has no metadata."""
        metadata = ins.metadata
        if not metadata.stack_frame_id:
            return f"{metadata.source_file}:{metadata.source_line}" if metadata.source_file else ""
        source = self._known.get(metadata.stack_frame_id)
        if source is None:
            frames = self._module.stack(metadata.stack_frame_id)
            own = (frame for frame in frames if not is_installed(frame.file))
            frame = next(own, frames[0] if frames else None)
            source = f"{normpath(frame.file)}:{frame.line}" if frame else ""
            self._known[metadata.stack_frame_id] = source
        return source
