"""The place of an instruction in the user's program, from jax's operation name: scope, direction and primitive."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from costax.hlo.metadata import split
from costax.program.tree import BACKWARD, FORWARD, RECOMPUTE

# Names that jax adds to a scope path: transformations around a scope, and control flow between scopes.
_WRAPPED: Final = re.compile(r"(jvp|transpose|vmap|linearize|custom_jvp|custom_vjp)\((.*)\)")
_CONTROL: Final = re.compile(
    r"jit\(.*|pjit\(.*|pmap\(.*|while|body|cond|closed_call|checkpoint|remat2?|branch_\d+_fun|shard_map|core_call|"
    r"custom_[jv][vj]p_call|eval_jaxpr|rematted_computation|~|~\d+~|.*->.*|"
)
_REMATTED: Final = "rematted_computation"


class Place(NamedTuple):
    """A place in the user's program.

    scope: the scope path, outermost part first. direction: forward, backward, recompute, or "" outside of a gradient.
    primitive: of jax, "" for an instruction without a name.
    """

    scope: tuple[str, ...] = ()
    direction: str = ""
    primitive: str = ""


def place_of(name: str) -> Place:
    """Return the place in the `op_name` of an instruction.

    >>> place_of("jit(step)/transpose(jvp(ResNet))/layer1_0/conv1/conv_general_dilated[padding=SAME]")
    Place(scope=('ResNet', 'layer1_0', 'conv1'), direction='backward', primitive='conv_general_dilated')
    """
    # An instruction may have several names, joined by `;`. The first is the innermost.
    *path, last = split(name.partition(";")[0]) or ("",)
    parts: list[str] = []
    transforms: list[str] = []
    for part in path:
        inner, wrapped = part, False
        while match := _WRAPPED.fullmatch(inner):
            transforms.append(match[1])
            inner, wrapped = match[2], True
        # A wrapper may contain several names, `jvp(encoder/layer_0)`, or none, `jvp()`.
        names = [piece for piece in inner.split("/") if not _CONTROL.fullmatch(piece)]
        # After a transformation the scope may start again: `transpose(jvp(net))/jvp(net)` is in net, not in net/net.
        parts = names if wrapped and names and names == parts[: len(names)] else [*parts, *names]
    direction = (
        RECOMPUTE
        if _REMATTED in path
        else BACKWARD
        if "transpose" in transforms and "jvp" in transforms[transforms.index("transpose") :]
        else FORWARD
        if "jvp" in transforms
        else ""
    )
    return Place(tuple(parts), direction, last.partition("[")[0] if path or last.isidentifier() else "")
