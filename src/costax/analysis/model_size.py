"""Sizes: the bits of a model as it is stored, or under another scheme."""

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
"""Bits of an element, by what people call a scheme."""


def model_size(parameters: Mapping[Any, Any], bits: int | str | Mapping[str, int | str] | None = None) -> Count:
    """Return the bits of parameters, given as sizes by (scope, dtype).

    bits: an element's, a scheme such as "int8", or either by scope pattern, the first that fits; None for those of
    their dtypes. Raises InputError where no pattern fits, or a scheme is unknown.
    """
    if bits is None:
        return sum(8 * size.nbytes for size in parameters.values())
    schemes = bits if isinstance(bits, Mapping) else {"*": bits}
    return sum(size.elements * _bits("/".join(scope), schemes) for (scope, _), size in parameters.items())


def width(scheme: int | str) -> int:
    """Return the bits of an element of a scheme. Raises InputError where nobody knows it."""
    found = scheme if isinstance(scheme, int) else SCHEMES.get(scheme, 0)
    if found <= 0:
        raise InputError(
            f"{scheme!r} is no width of an element.",
            why=f"It is a number of bits, or one of {', '.join(SCHEMES)}.",
            cure='Write for example "int8", or 4.',
        )
    return found


def _bits(scope: str, schemes: Mapping[str, int | str]) -> int:
    for pattern, scheme in schemes.items():
        if pattern == scope or fnmatchcase(scope, pattern):
            return width(scheme)
    raise InputError(
        f"No scheme says how many bits the parameters of {scope or '(no scope)'} have.",
        why=f"The patterns are {', '.join(schemes)}.",
        cure='Add one for the rest: {..., "*": 32}.',
    )
