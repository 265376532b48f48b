"""The bits of the stored parameters of a model, for their own dtypes or for another number format."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from costax.core.cost import Count
from costax.errors import InputError

SCHEMES: Final[Mapping[str, int]] = {
    "fp64": 64,
    "f64": 64,
    "fp32": 32,
    "f32": 32,
    "bf16": 16,
    "fp16": 16,
    "f16": 16,
    "fp8": 8,
    "int8": 8,
    "fp4": 4,
    "int4": 4,
    "int2": 2,
    "binary": 1,
}
"""Bits of an element, by the name of the number format."""


def model_size(parameters: Mapping[Any, Any], bits: int | str | Mapping[str, int | str] | None = None) -> Count:
    """Return the bits of parameters, which are passed as sizes by (scope, dtype).

    bits: the bits of an element, a format such as "int8", or a mapping from scope patterns to either, of which the
    first pattern that matches counts. None stands for the bits of the parameters' own dtypes. Raises InputError if no
    pattern matches a scope, or a format is unknown.
    """
    if bits is None:
        return sum(8 * size.nbytes for size in parameters.values())
    schemes = bits if isinstance(bits, Mapping) else {"*": bits}
    return sum(size.elements * _bits("/".join(scope), schemes) for (scope, _), size in parameters.items())


def width(scheme: int | str) -> int:
    """Return the bits of an element of a number format. Raises InputError for an unknown format."""
    bits = scheme if isinstance(scheme, int) else SCHEMES.get(scheme, 0)
    if bits <= 0:
        raise InputError(
            f"{scheme!r} is neither a positive number of bits nor the name of a number format.",
            why=f"costax knows the formats {', '.join(SCHEMES)}.",
            cure='Pass, for example, "int8" or 4.',
        )
    return bits


def _bits(scope: str, schemes: Mapping[str, int | str]) -> int:
    for pattern, scheme in schemes.items():
        if pattern == scope or fnmatchcase(scope, pattern):
            return width(scheme)
    raise InputError(
        f"The parameters of {scope or '(no scope)'} match none of the patterns {', '.join(schemes)}.",
        why="The bits of these parameters are unknown.",
        cure='Add a pattern for all other scopes: {..., "*": 32}.',
    )
