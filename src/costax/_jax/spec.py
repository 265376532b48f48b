"""Shapes from text: `f32[8,224,224,3]`, `bf16[b,s,768]`."""

from __future__ import annotations

import keyword
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from costax import _jax
from costax._jax import pytrees
from costax.core.polynomial import parse
from costax.errors import InputError, SymbolError

# Untyped, because jax's annotations are incomplete.
_api: Any = jax

_GRAMMAR = re.compile(
    r"\s*(?P<dtype>[a-z]\w*(?:<\w+>)?)\s*\[(?P<shape>[^\[\]]*)\]\s*(?:;(?P<constraints>.*))?", re.DOTALL
)
_PREFIXES = {"f": "float", "bf": "bfloat", "i": "int", "s": "int", "u": "uint", "c": "complex"}
_DTYPE = re.compile(r"(bf|f|i|s|u|c|float|bfloat|int|uint|complex)([0-9]+)(_\w+)?")
# HLO writes pred.
_BOOLEANS = {"bool": "bool", "pred": "bool"}
# What jax traces a dtype of 64 bits as, unless its setting for 64 bits is on.
_HALF = {"float64": "float32", "int64": "int32", "uint64": "uint32", "complex128": "complex64"}
_KEYS = {"key<fry>": "threefry2x32", "key<rbg>": "rbg", "key<urbg>": "unsafe_rbg"}


def spec(text: str, *constraints: str) -> jax.ShapeDtypeStruct:
    """Return the abstract array that a text such as `f32[8,224,224,3]`, `bf16[b,s,768]` or `key<fry>[]` describes.

    Extents are integers or formulas of symbols: `b*h`, `s + 1`, `s//2`. A symbol stands for any size of at least 1, the
    same in all arguments of a call. No array is allocated.

    Warns of a dtype of 64 bits (`f64`, `i64`, `u64`, `c128`) where `jax_enable_x64` is off: jax traces it as 32 bits.

    Args:
        text: The dtype and the shape.
        constraints: Conditions on the symbols, such as `"s >= 2"` or `"mod(s, 8) == 0"`; they may also follow the
            shape after a semicolon: `i32[b,s]; s >= 2, b <= 64`.

    Raises InputError if the text is not of the form `dtype[extent,extent,...]`, or if a constraint is not valid.

    >>> spec("bf16[2,128]"), spec("i32[b,s+1]")
    (ShapeDtypeStruct(shape=(2, 128), dtype=bfloat16), ShapeDtypeStruct(shape=(b, s + 1), dtype=int32))
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _wrong(text, "it is not a string")
    match = _GRAMMAR.fullmatch(text)
    if not match:
        raise _wrong(text, "it is not of the form dtype[extent,extent,...]")
    dtype = _dtype(text, match["dtype"])
    _warn_of_64_bits(text, dtype)
    extents = _separated(match["shape"])
    counts = [int(extent) if re.fullmatch(r"[0-9]+", extent) else _formula(text, extent) for extent in extents]
    written = (*constraints, *_separated(match["constraints"] or ""))
    if all(isinstance(count, int) for count in counts) and not written:
        return jax.ShapeDtypeStruct(tuple(counts), dtype)
    if not any(sign in constraint for constraint in written for sign in (">=", "<=", "==")) and written:
        raise _wrong(text, f"{written[0]!r} is not a constraint, because it does not contain >=, <= or ==")
    try:
        scope = _jax.scope_of([" ".join(constraint.split()) for constraint in written])
        shape = tuple(_jax.dimension(count, scope) for count in counts)
    except Exception as error:  # jax raises several classes of errors for an invalid constraint or dimension
        raise _wrong(text, f"jax rejects {' or '.join(map(repr, written)) or 'its shape'}: {error}") from error
    return jax.ShapeDtypeStruct(shape, dtype)


# An argument that is a text of this form is the shape of an array; other texts stay what they are.
_LOOKS_LIKE_A_SPEC = re.compile(r"[a-z]+[0-9]*\w*(<\w+>)?\[[^\[\]]*\]\s*(;.*)?", re.DOTALL)


def with_specs(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments in which each text such as "f32[8,128]" is the abstract array that it describes.

    Static arguments stay as they are. Raises InputError for a text of this form that is not a valid spec.
    """
    numbers = {static_argnums} if isinstance(static_argnums, int) else set(static_argnums)
    names = {static_argnames} if isinstance(static_argnames, str) else set(static_argnames)
    static = {number % len(args) if -len(args) <= number < 0 else number for number in numbers} if args else set[int]()
    return (
        tuple(x if position in static else _with_specs(x) for position, x in enumerate(args)),
        {name: x if name in names else _with_specs(x) for name, x in kwargs.items()},
    )


def _with_specs(argument: Any) -> Any:
    leaves, structure = pytrees.flatten(argument)
    described = [isinstance(leaf, str) and _LOOKS_LIKE_A_SPEC.fullmatch(leaf) for leaf in leaves]
    if not any(described):
        return argument
    specs = [spec(leaf) if text else leaf for leaf, text in zip(leaves, described, strict=True)]
    return pytrees.unflatten(structure, specs)


def _separated(text: str) -> list[str]:
    """Split at the commas outside parentheses."""
    parts = [""]
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts] if text.strip() else []


def _formula(text: str, extent: str) -> Any:
    try:
        count = parse.parse_polynomial(extent)
    except SymbolError as error:
        raise _wrong(text, f"the extent {extent!r} is neither a non-negative integer nor a formula") from error
    if re.search(r"(?<!/)/(?!/)", extent):
        raise _wrong(text, f"the extent {extent!r} may be a fraction; // divides and rounds down")
    negative = count < 0 if isinstance(count, int) else False
    unnamed = [name for name in getattr(count, "symbols", ()) if not name.isidentifier() or keyword.iskeyword(name)]
    if negative or unnamed:
        raise _wrong(
            text, f"the extent {extent!r} is negative" if negative else f"{unnamed[0]!r} is not a valid symbol name"
        )
    return count


def _dtype(text: str, name: str) -> Any:
    if name in _KEYS:
        return _key_dtype(_KEYS[name])
    match = _DTYPE.fullmatch(name)
    long = f"{_PREFIXES.get(match[1], match[1])}{match[2]}{match[3] or ''}" if match else _BOOLEANS.get(name, "")
    try:
        dtype = jnp.dtype(long) if long else None
    except TypeError:
        dtype = None
    # numpy has 80-bit floats, jax does not.
    if dtype is None or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise _wrong(text, f"jax has no dtype {name!r}")
    return dtype


def _warn_of_64_bits(text: str, dtype: Any) -> None:
    """Warn of a dtype that jax halves, unless its setting for 64 bits is on."""
    half = _HALF.get(str(dtype))
    if half is not None and not _api.config.jax_enable_x64:
        what = f"Explicitly requested dtype {dtype} of {text!r} is traced as {half}, because jax_enable_x64 is off."
        cure = 'Turn it on with jax.config.update("jax_enable_x64", True) or JAX_ENABLE_X64=1.'
        warnings.warn(f"{what} {cure}", UserWarning, stacklevel=3)


def _key_dtype(implementation: str) -> Any:
    return pytrees.random_key(implementation).dtype


def _wrong(text: object, reason: str) -> InputError:
    return InputError(
        f"{text!r} is not a valid spec of an array: {reason}.",
        why="costax reads the shape and dtype of the argument from this text.",
        cure="Write it as jax prints it: f32[8,224,224,3], bf16[b,s,768], i32[], bool[4], f8_e4m3fn[64], key<fry>[].",
    )
