"""Shapes from text: `f32[8,224,224,3]`."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp

from costax import pytrees
from costax.errors import InputError

_GRAMMAR = re.compile(r"\s*(?P<dtype>[a-z]\w*(?:<\w+>)?)\s*\[(?P<shape>[^\[\]]*)\]\s*")
_PREFIXES = {"f": "float", "bf": "bfloat", "i": "int", "s": "int", "u": "uint", "c": "complex"}
_DTYPE = re.compile(r"(bf|f|i|s|u|c|float|bfloat|int|uint|complex)([0-9]+)(_\w+)?")
# HLO writes pred.
_BOOLEANS = {"bool": "bool", "pred": "bool"}
_KEYS = {"key<fry>": "threefry2x32", "key<rbg>": "rbg", "key<urbg>": "unsafe_rbg"}


def spec(text: str) -> jax.ShapeDtypeStruct:
    """Return the abstract array that a text such as `f32[8,224,224,3]`, `i32[]` or `key<fry>[]` names.

    Nothing is allocated. Raises InputError where the text is not of the form `dtype[extent,extent,...]`.

    >>> spec("bf16[2,128]")
    ShapeDtypeStruct(shape=(2, 128), dtype=bfloat16)
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _wrong(text, "it is not a text")
    found = _GRAMMAR.fullmatch(text)
    if not found:
        raise _wrong(text, "it is not of the form dtype[extent,extent,...]")
    dtype = _dtype(text, found["dtype"])
    extents = [part.strip() for part in found["shape"].split(",")] if found["shape"].strip() else []
    for extent in extents:
        if not re.fullmatch(r"[0-9]+", extent):
            raise _wrong(text, f"the extent {extent!r} is not a non-negative integer")
    return jax.ShapeDtypeStruct(tuple(int(extent) for extent in extents), dtype)


def _dtype(text: str, name: str) -> Any:
    if name in _KEYS:
        return _key_dtype(_KEYS[name])
    found = _DTYPE.fullmatch(name)
    long = f"{_PREFIXES.get(found[1], found[1])}{found[2]}{found[3] or ''}" if found else _BOOLEANS.get(name, "")
    try:
        dtype = jnp.dtype(long) if long else None
    except TypeError:
        dtype = None
    # numpy's 80-bit floats are no dtype of jax.
    if dtype is None or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise _wrong(text, f"jax has no dtype {name!r}")
    return dtype


def _key_dtype(implementation: str) -> Any:
    return pytrees.random_key(implementation).dtype


def _wrong(text: object, reason: str) -> InputError:
    return InputError(
        f"{text!r} names no array: {reason}.",
        why="costax needs the shape and dtype of every argument, and reads them from this text.",
        cure="Write it as jax prints it: f32[8,224,224,3], bf16[128], i32[], bool[4], f8_e4m3fn[64], key<fry>[].",
    )
