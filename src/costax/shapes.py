"""Shapes from text: `f32[8,224,224,3]`."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp

from costax.errors import InputError

_GRAMMAR = re.compile(r"\s*(?P<dtype>[a-z]\w*(?:<\w+>)?)\s*\[(?P<shape>[^\[\]]*)\]\s*")
_PREFIXES = {"f": "float", "bf": "bfloat", "i": "int", "s": "int", "u": "uint", "c": "complex"}
_KEYS = {"key<fry>": "threefry2x32", "key<rbg>": "rbg", "key<urbg>": "unsafe_rbg"}


def spec(text: str) -> jax.ShapeDtypeStruct:
    """Return the abstract array that a text such as `f32[8,224,224,3]`, `i32[]` or `key<fry>[]` names.

    Nothing is allocated. Raises InputError where the text is not of the form `dtype[extent,extent,...]`.

    >>> spec("bf16[2,128]")
    ShapeDtypeStruct(shape=(2, 128), dtype=bfloat16)
    """
    found = _GRAMMAR.fullmatch(text)
    if not found:
        raise _wrong(text, "it is not of the form dtype[extent,extent,...]")
    dtype = _dtype(text, found["dtype"])
    extents = [part.strip() for part in found["shape"].split(",")] if found["shape"].strip() else []
    for extent in extents:
        if not re.fullmatch(r"\d+", extent):
            raise _wrong(text, f"the extent {extent!r} is not a non-negative integer")
    return jax.ShapeDtypeStruct(tuple(int(extent) for extent in extents), dtype)


def _dtype(text: str, name: str) -> Any:
    if name in _KEYS:
        return _key_dtype(_KEYS[name])
    found = re.fullmatch(r"(bf|f|i|s|u|c)(\d+)(_\w+)?", name)
    long = f"{_PREFIXES[found[1]]}{found[2]}{found[3] or ''}" if found else name
    try:
        return jnp.dtype(long)
    except TypeError:
        raise _wrong(text, f"jax has no dtype {name!r}") from None


def _key_dtype(implementation: str) -> Any:
    return jax.eval_shape(lambda: jax.random.key(0, impl=implementation)).dtype


def _wrong(text: str, reason: str) -> InputError:
    return InputError(
        f"{text!r} names no array: {reason}.",
        why="costax needs the shape and dtype of every argument, and reads them from this text.",
        cure="Write it as jax prints it: f32[8,224,224,3], bf16[128], i32[], bool[4], c64[2,2], f8_e4m3fn[64], key<fry>[].",
    )
