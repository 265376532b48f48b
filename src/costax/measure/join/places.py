"""The place of an instruction in the user's program, from jax's operation name: scope, direction and primitive."""

from __future__ import annotations

from typing import NamedTuple

from costax.hlo.metadata import MARK, layer_of, split


class ProgramPlace(NamedTuple):
    """A place in the user's program.

    scope: the scope path, outermost part first. direction: "forward", "backward" or "recompute"; "outside the gradient"
    in a module with a backward pass, and "" in a module without one. primitive: of jax, "" for an instruction without a
    name.
    """

    scope: tuple[str, ...] = ()
    direction: str = ""
    primitive: str = ""


def place_of(name: str) -> ProgramPlace:
    """Return the place in the `op_name` of an instruction.

    >>> place_of("jit(step)/transpose(jvp(ResNet))/layer1_0/conv1/conv_general_dilated[padding=SAME]")
    ProgramPlace(scope=('ResNet', 'layer1_0', 'conv1'), direction='backward', primitive='conv_general_dilated')
    """
    # An instruction may have several names, joined by `;`. The first is the innermost.
    parts = [part for part in split(name.partition(";")[0]) if not MARK.fullmatch(part)]
    *path, last = parts or [""]
    # The name of an argument, `params['w']`, is no primitive.
    primitive = last.partition("[")[0] if path or last.isidentifier() else ""
    return ProgramPlace(*layer_of(path), primitive)
