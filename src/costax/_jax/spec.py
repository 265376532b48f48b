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
# Limits of XLA and of numpy: an extent is an integer of 64 bits, and an array has at most 64 axes.
_LARGEST_EXTENT = (1 << 63) - 1
_MOST_AXES = 64
_LONGEST = 20_000
_LONGEST_QUOTE = 80
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
    if len(text) > _LONGEST:
        raise _wrong(text, f"it has {len(text):,} characters, and {_LONGEST:,} is the limit")
    match = _GRAMMAR.fullmatch(text)
    if not match:
        raise _wrong(text, "it is not of the form dtype[extent,extent,...]")
    dtype = _dtype(text, match["dtype"])
    _warn_of_64_bits(text, dtype)
    extents = _separated(match["shape"])
    if len(extents) > _MOST_AXES:
        raise _wrong(text, f"it has {len(extents):,} axes, and {_MOST_AXES} is the limit")
    counts = [_extent(text, extent) for extent in extents]
    written = (*constraints, *_separated(match["constraints"] or ""))
    for constraint in written:
        _check_size(text, constraint)
    if all(isinstance(count, int) for count in counts) and not written:
        return jax.ShapeDtypeStruct(tuple(counts), dtype)
    if not any(sign in constraint for constraint in written for sign in (">=", "<=", "==")) and written:
        raise _wrong(text, f"{_quoted(written[0])} is not a constraint, because it does not contain >=, <= or ==")
    try:
        scope = _jax.scope_of([" ".join(constraint.split()) for constraint in written])
        shape = tuple(_jax.dimension(count, scope) for count in counts)
    except Exception as error:  # jax raises several classes of errors for an invalid constraint or dimension
        rejected = " or ".join(map(_quoted, written)) or "its shape"
        raise _wrong(text, f"jax rejects {rejected}: {error}") from error
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


def _extent(text: str, extent: str) -> Any:
    count = _formula(text, extent)
    if isinstance(count, int) and count > _LARGEST_EXTENT:
        raise _wrong(text, f"the extent {_quoted(extent)} is larger than {_LARGEST_EXTENT:,}, the largest that XLA has")
    return count


def _check_size(text: str, constraint: str) -> None:
    """Raise InputError for a constraint with a number or power that is too large: jax would multiply it out."""
    for side in re.split(r"[<>=]=", constraint):
        try:
            count = parse.parse_polynomial(side)
        except SymbolError as error:
            raise _wrong(text, f"{_quoted(constraint)} is not a constraint: {error.what}") from error
        if isinstance(count, int) and abs(count) > _LARGEST_EXTENT:
            raise _wrong(text, f"a number in {_quoted(constraint)} is larger than {_LARGEST_EXTENT:,}")


def _formula(text: str, extent: str) -> Any:
    try:
        count = parse.parse_polynomial(extent)
    except SymbolError as error:
        reason = f"the extent {_quoted(extent)} is neither a non-negative integer nor a formula"
        raise _wrong(text, reason) from error
    if re.search(r"(?<!/)/(?!/)", extent):
        raise _wrong(text, f"the extent {_quoted(extent)} may be a fraction; // divides and rounds down")
    negative = count < 0 if isinstance(count, int) else False
    unnamed = [name for name in getattr(count, "symbols", ()) if not name.isidentifier() or keyword.iskeyword(name)]
    if negative or unnamed:
        raise _wrong(
            text,
            f"the extent {_quoted(extent)} is negative"
            if negative
            else f"{_quoted(unnamed[0])} is not a valid symbol name",
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
        raise _wrong(text, f"jax has no dtype {_quoted(name)}")
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


def _quoted(text: object) -> str:
    """Return a text in quotes, cut where it is long."""
    quoted = repr(text)
    return quoted if len(quoted) <= _LONGEST_QUOTE else f"{quoted[:_LONGEST_QUOTE]}..."


def _wrong(text: object, reason: str) -> InputError:
    return InputError(
        f"{_quoted(text)} is not a valid spec of an array: {reason}.",
        why="costax reads the shape and dtype of the argument from this text.",
        cure="Write it as jax prints it: f32[8,224,224,3], bf16[b,s,768], i32[], bool[4], f8_e4m3fn[64], key<fry>[].",
    )
