"""Names of dtypes, as jaxprs print them: `f32`, `bf16`, `i8`, `c64`, `key<fry>`.

The rest of costax knows a dtype by its name alone. The class (floating, complex, integer, boolean, key) and the width
in bits are read from the name. Source of the names: `jax.core.ShapedArray.str_short`.
"""

from __future__ import annotations

import re
from functools import cache

_LONG = {"float": "f", "uint": "u", "int": "i", "complex": "c", "bfloat": "bf"}
_WIDTH = re.compile(r"(bf|f|c|i|u)(\d+)")
# A PRNG key is stored as uint32 words. Source: jax.random, `key_shape` of each implementation.
_KEY_BITS = {"fry": 64, "fry4": 128, "phx2": 32, "phx4": 64, "rbg": 128, "urbg": 128}


@cache
def short_name(name: str) -> str:
    """Return the short form of a numpy or jax dtype name.

    >>> short_name("float32"), short_name("bfloat16"), short_name("float8_e4m3fn"), short_name("uint8")
    ('f32', 'bf16', 'f8_e4m3fn', 'u8')
    """
    match = re.fullmatch(r"(bfloat|float|uint|int|complex)(\d+)(.*)", name)
    return f"{_LONG[match[1]]}{match[2]}{match[3]}" if match else name


@cache
def bits(name: str) -> int:
    """Return the bits of one element; sub-byte types are packed, as XLA packs them. A boolean takes a byte.

    >>> bits("f32"), bits("i4"), bits("bool"), bits("c64"), bits("key<fry>"), bits("float0")
    (32, 4, 8, 64, 64, 0)
    """
    if name == "bool":
        return 8
    if name.startswith("key<"):
        return _KEY_BITS.get(name[4:-1], 64)
    match = _WIDTH.match(name)
    # float0 (the tangent of an integer), tokens and effects take no memory.
    return 0 if name == "float0" or not match else int(match[2])


@cache
def integers(name: str) -> range | None:
    """Return the range of an integer dtype, 0 and 1 for a boolean; None for any other dtype.

    >>> integers("i8"), integers("u4"), integers("f32")
    (range(-128, 128), range(0, 16), None)
    """
    if name == "bool":
        return range(2)
    if not re.fullmatch(r"[iu]\d+", name):
        return None
    size = 1 << int(name[1:])
    return range(size) if name[0] == "u" else range(-size // 2, size // 2)


@cache
def is_complex(name: str) -> bool:
    """Say whether elements are complex numbers."""
    return re.fullmatch(r"c\d+", name) is not None


@cache
def is_floating(name: str) -> bool:
    """Say whether arithmetic on the dtype counts as FLOPs, that is whether the dtype is floating or complex.

    A contraction of mixed dtypes is named `a*b->c`; the dtype of its accumulator, c, decides.

    >>> is_floating("bf16"), is_floating("c64"), is_floating("i8")
    (True, True, False)
    >>> is_floating("i8*i8->i32"), is_floating("bf16*bf16->f32")
    (False, True)
    """
    accumulator = name.rpartition("->")[2]
    return re.fullmatch(r"(bf|f|c)\d+(_\w+)?", accumulator) is not None


def mixed(*operands: str, accumulator: str) -> str:
    """Return the dtype name of a contraction: the common dtype, or `operands->accumulator` if they differ.

    >>> mixed("f32", "f32", accumulator="f32"), mixed("i8", "i8", accumulator="i32")
    ('f32', 'i8*i8->i32')
    """
    if set(operands) == {accumulator}:
        return accumulator
    return f"{'*'.join(operands)}->{accumulator}"
