"""The origin of an instruction, from the metadata of its module: the user's scope and source line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import takewhile
from os.path import normpath
from typing import Final, NamedTuple

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
_CALLS: Final = frozenset({"call", "while", "conditional"})
_REMATTED: Final = "rematted_computation"
_EVALUATED: Final = "eval_jaxpr"
_CONTROL: Final = re.compile(
    rf"while|body|cond|closed_call|{_EVALUATED}|checkpoint|remat|branch_\d+_fun|shard_map|custom_[jv]vp_call\w*|~|.*->.*|{_REMATTED}"
)
# In a damaged file, nested calls could make the joined names grow without bound.
_MAX_SCOPE_DEPTH: Final = 100
# n nested functions that each call the next one in two scopes have 2^n scopes. The instructions of a module count once
# for each call site, as if its calls were inlined.
_MAX_PLACED: Final = 200_000


class Site(NamedTuple):
    """Where a computation runs, as far as the names in it depend on that.

    function: the whole name of the call of the function around it. around: that of the instruction that runs it.
    control: the name of the loop or conditional that runs it, as it stands in the function; () for a function.
    """

    function: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    control: tuple[str, ...] = ()


_ENTRY: Final = Site()


class Scopes:
    """The scopes of instructions, from jax's operation names: `jit(step)/layer_1/dot_general` is in `layer_1`.

    Before optimisation, the names inside a shared function are relative to its call, and the instructions in it have a
    scope at each call site. Names in a loop or branch are relative to the same call as the name of the loop.

    merged: the computations whose call sites are too many, or that are called in several places although the module has
    fusions; their instructions have the part of the scope that all calls share, and then their own.
    """

    def __init__(self, module: Module) -> None:
        """Find the call sites of every computation of a module."""
        names = (split(ins.op_name) for ins in module.entry.instructions)
        self._root = next((name[0] for name in names if name and name[0].startswith(("jit(", "pjit(", "pmap("))), "")
        self._common: dict[int, Site] = {}
        self._known: dict[tuple[Site, str], tuple[str, ...]] = {}
        self._layers: dict[tuple[Site, str], tuple[tuple[str, ...], str]] = {}
        self.merged: dict[int, Computation] = {}
        computations = list(module.computations.values())
        # XLA inlines calls before it fuses.
        left = 0 if any(x.opcode == "fusion" for c in computations for x in c.instructions) else _MAX_PLACED
        found: dict[int, dict[Site, None]] = {}
        # A module lists callees before callers: in reverse, all callers of a computation come before it.
        for computation in reversed(computations):
            sites = list(found.pop(computation.id, {})) or [_ENTRY]
            self._common[computation.id] = common = _common(sites)
            if len(sites) > 1:
                left -= (placed := len(sites) * len(computation.instructions))
                if left < 0:
                    left += placed
                    self.merged[computation.id] = computation
                    sites = [common]
            for ins in computation.instructions:
                for callee in ins.called if ins.opcode in _CALLS else ():
                    found.setdefault(callee.id, {}).update(dict.fromkeys(self._inside(sites, ins)))

    def inside(self, sites: Sequence[Site], ins: Instruction, callee: Computation) -> Sequence[Site]:
        """Return where a computation runs that an instruction calls, for each of the places where that one runs."""
        if callee.id in self.merged:
            return [self._common[callee.id]] * len(sites)
        return self._inside(sites, ins) if ins.opcode in _CALLS else [_ENTRY] * len(sites)

    def _inside(self, sites: Sequence[Site], ins: Instruction) -> Sequence[Site]:
        name = split(ins.op_name)
        whole = [self._whole(site, name) for site in sites]
        if ins.opcode == "call":
            return [Site(x, x) for x in whole]
        return [Site(site.function, x, name) if name else site for site, x in zip(sites, whole, strict=True)]

    def of(self, computation: Computation, ins: Instruction) -> tuple[str, ...]:
        """Return the scope of an instruction, outermost part first; of several call sites the part that they share."""
        key = self._common[computation.id], ins.op_name
        scope = self._known.get(key)
        if scope is None:
            path = tuple(part for part in self._whole(key[0], split(key[1]))[:-1] if not MARK.fullmatch(part))
            scope = self._known[key] = path[1:] if path[:1] == (self._root,) else path
        return scope

    def layer(
        self, computation: Computation, ins: Instruction, site: Site | None = None
    ) -> tuple[tuple[str, ...], str]:
        """Return the scope of the user and the direction of an instruction, as `layer_of` reads its name.

        What the partitioner moves for an instruction belongs to that instruction. site: where the computation runs; by
        default all call sites together, of which the scope is the part that they share.
        """
        if is_resharding(ins):
            ins, inside = next(consumers(ins, computation, self._is_jaxs), (ins, computation))
            site, computation = site if inside is computation else None, inside
        key = site or self._common[computation.id], ins.op_name
        found = self._layers.get(key)
        if found is None:
            # XLA joins the names of instructions that it merges: `jit(f)/a/add;jit(f)/b/mul`. The first one counts.
            first = _JOINED.split(key[1], maxsplit=1)[0]
            found = self._layers[key] = layer_of(self._whole(key[0], split(first))[:-1])
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

    def _whole(self, site: Site, parts: tuple[str, ...]) -> tuple[str, ...]:
        """Return the whole name of an instruction. parts: those of its own name; () has the name of what runs it."""
        if parts[:1] == (self._root,):
            return parts
        # The names in the body of a loop begin as the name of the loop does: only a call starts names anew.
        beside = parts and site.control and parts[: len(site.control) - 1] == site.control[:-1]
        return (*(site.function if beside else site.around), *parts)[:_MAX_SCOPE_DEPTH]


def _common(sites: Sequence[Site]) -> Site:
    """Return the part of the names that several call sites share."""
    if len(sites) == 1:
        return sites[0]
    functions, around, controls = zip(*sites, strict=True)
    control: tuple[str, ...] = controls[0] if len(set(controls)) == 1 else ()
    return Site(_shared(functions), _shared(around), control)


def _shared(names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the parts with which all names begin.

    >>> _shared([("jit(f)", "A", "jit(g)"), ("jit(f)", "B", "jit(g)")])
    ('jit(f)',)
    """
    # All names lie between the first and the last in order, and so begin as these two do.
    pairs = zip(min(names), max(names), strict=False)
    return tuple(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


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
