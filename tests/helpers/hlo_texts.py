"""Strategies for HLO text: shapes with layouts, and the table of generators that the files beside this one fill."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from hypothesis import strategies as st

FLOATS = ("f16", "bf16", "f32", "f64", "f8e4m3fn", "f8e5m2")
INTEGERS = ("s8", "s16", "s32", "s64", "u8", "u16", "u32", "u64", "s4", "u4", "s2")
COMPLEX = ("c64", "c128")
NUMBERS = FLOATS + INTEGERS + COMPLEX
SUB_BYTE = {"s4": 4, "u4": 4, "s2": 2, "pred": 1}

extent = st.one_of(st.integers(0, 9), st.sampled_from([16, 31, 100, 1001, 4097, 65537]))
positive = extent.map(lambda n: max(n, 1))
dims = st.lists(extent, max_size=4).filter(lambda d: prod(d) < 2**45)
small = st.lists(st.integers(1, 9), max_size=4)


def layout(draw, rank: int, dtype: str = "") -> str:
    if not rank or draw(st.booleans()):
        return ""
    order = draw(st.permutations(range(rank)))
    bits = f":E({SUB_BYTE[dtype]})" if dtype in SUB_BYTE and draw(st.booleans()) else ""
    return f"{{{','.join(map(str, order))}{bits}}}"


def shape(draw, dtype: str, extents, *, plain: bool = False) -> str:
    extents = list(extents)
    return f"{dtype}[{','.join(map(str, extents))}]{'' if plain else layout(draw, len(extents), dtype)}"


def joined(values) -> str:
    return ",".join(map(str, values))


INSTRUCTIONS: dict[str, Callable[..., bytes]] = {}
"""Opcode to a function that draws a module with one such instruction."""


def instruction(*opcodes: str):
    def register(build):
        for name in opcodes:
            INSTRUCTIONS[name] = lambda draw, name=name: build(draw, name)
        return build

    return register


def joined_x(values) -> str:
    return "x".join(map(str, values))
