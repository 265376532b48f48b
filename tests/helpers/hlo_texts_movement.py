"""Opcodes that move data. One function draws a module with one such instruction."""

from __future__ import annotations

from math import prod

from hypothesis import strategies as st

from hlo_oracle import one
from hlo_texts import NUMBERS, dims, instruction, joined, positive, shape


@instruction("slice")
def slice_(draw, op):
    d = draw(dims)
    cuts = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in d]
    steps = [draw(st.integers(1, 3)) for _ in d]
    out = [-(-(b - a) // s) for (a, b), s in zip(cuts, steps, strict=True)]
    text = joined(f"[{a}:{b}:{s}]" for (a, b), s in zip(cuts, steps, strict=True))
    return one(f"{shape(draw, 'f32', out)} slice(p0), slice={{{text}}}", shape(draw, "f32", d))


@instruction("dynamic-slice")
def dynamic_slice(draw, op):
    d = draw(dims.filter(bool))
    out = [draw(st.integers(0, n)) for n in d]
    kind = draw(st.sampled_from(["s32", "s64", "u8"]))
    indices = ", ".join(f"p{i + 1}" for i in range(len(d)))
    return one(
        f"{shape(draw, 'f32', out)} dynamic-slice(p0, {indices}), dynamic_slice_sizes={{{joined(out)}}}",
        shape(draw, "f32", d),
        *[f"{kind}[]"] * len(d),
    )


@instruction("dynamic-update-slice")
def dynamic_update_slice(draw, op):
    d = draw(dims.filter(bool))
    update = [draw(st.integers(0, n)) for n in d]
    indices = ", ".join(f"p{i + 2}" for i in range(len(d)))
    return one(
        f"{shape(draw, 'f32', d)} dynamic-update-slice(p0, p1, {indices})",
        shape(draw, "f32", d),
        shape(draw, "f32", update),
        *["s32[]"] * len(d),
    )


@instruction("transpose")
def transpose(draw, op):
    d = draw(dims)
    order = draw(st.permutations(range(len(d))))
    dtype = draw(st.sampled_from(NUMBERS))
    return one(
        f"{shape(draw, dtype, [d[i] for i in order])} transpose(p0), dimensions={{{joined(order)}}}",
        shape(draw, dtype, d),
    )


@instruction("broadcast")
def broadcast(draw, op):
    d = draw(dims)
    kept = sorted(draw(st.sets(st.sampled_from(range(len(d))))) if d else [])
    return one(
        f"{shape(draw, 'f32', d)} broadcast(p0), dimensions={{{joined(kept)}}}",
        shape(draw, "f32", [d[i] for i in kept]),
    )


@instruction("reshape", "dynamic-reshape")
def reshape(draw, op):
    d = draw(dims)
    if op == "reshape":
        return one(f"{shape(draw, 'f32', [prod(d)])} reshape(p0)", shape(draw, "f32", d))
    return one(f"f32[<={prod(d)}] dynamic-reshape(p0, p1)", shape(draw, "f32", d), "s32[]")


@instruction("concatenate")
def concatenate(draw, op):
    d = draw(dims.filter(bool))
    n = draw(st.integers(1, 4))
    return one(
        f"{shape(draw, 'f32', [d[0] * n, *d[1:]])} concatenate({joined(f'p{i}' for i in range(n))}), dimensions={{0}}",
        *[shape(draw, "f32", d) for _ in range(n)],
    )


@instruction("pad")
def pad(draw, op):
    d = draw(dims.filter(bool))
    edges = [(draw(st.integers(0, 3)), draw(st.integers(0, 3)), draw(st.integers(0, 2))) for _ in d]
    out = [n + a + b + max(0, n - 1) * c for n, (a, b, c) in zip(d, edges, strict=True)]
    padding = "x".join(f"{a}_{b}_{c}" for a, b, c in edges)
    return one(f"{shape(draw, 'f32', out)} pad(p0, p1), padding={padding}", shape(draw, "f32", d), "f32[]")


@instruction("reverse")
def reverse(draw, op):
    d = draw(dims.filter(bool))
    return one(f"{shape(draw, 'f32', d)} reverse(p0), dimensions={{0}}", shape(draw, "f32", d))


@instruction("iota")
def iota(draw, op):
    d = draw(dims.filter(bool))
    return one(f"{shape(draw, 's32', d)} iota(), iota_dimension=0")


@instruction("tuple")
def tuple_(draw, op):
    parts = [shape(draw, draw(st.sampled_from(NUMBERS)), draw(dims)) for _ in range(draw(st.integers(0, 5)))]
    return one(f"({', '.join(parts)}) tuple({joined(f'p{i}' for i in range(len(parts)))})", *parts)


@instruction("get-tuple-element", "opt-barrier", "parameter")
def of_tuple(draw, op):
    parts = [
        shape(draw, draw(st.sampled_from(NUMBERS)), draw(dims), plain=True) for _ in range(draw(st.integers(1, 4)))
    ]
    whole = f"({', '.join(parts)}, (f32[3], (s8[5])), token[])"
    if op == "opt-barrier":
        return one(f"{whole} opt-barrier(p0)", whole)
    return one(f"{parts[0]} get-tuple-element(p0), index=0", whole)


@instruction("constant")
def constant(draw, op):
    return one("f32[3] constant({1, 2, 3})")


@instruction("get-dimension-size", "set-dimension-size")
def dimension_size(draw, op):
    n = draw(positive)
    if op == "get-dimension-size":
        return one("s32[] get-dimension-size(p0), dimensions={0}", f"f32[<={n},3]")
    return one(f"f32[<={n},3] set-dimension-size(p0, p1), dimensions={{0}}", f"f32[{n},3]", "s32[]")


@instruction("shuffle")
def shuffle(draw, op):
    whole = shape(draw, "f32", draw(dims.filter(bool)))
    return one(f"{whole} shuffle(p0), dimensions={{0}}, mode=rotate, shifts={{1}}", whole)
