"""Strategies for HLO text: shapes with layouts, and one instruction of every opcode."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from hlo_oracle import from_text, one, reducer
from hypothesis import strategies as st

FLOATS = ("f16", "bf16", "f32", "f64", "f8e4m3fn", "f8e5m2")
INTEGERS = ("s8", "s16", "s32", "s64", "u8", "u16", "u32", "u64", "s4", "u4", "s2")
COMPLEX = ("c64", "c128")
NUMBERS = FLOATS + INTEGERS + COMPLEX
SUB_BYTE = {"s4": 4, "u4": 4, "s2": 2, "pred": 1}

Draw = Callable[..., object]
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


@instruction("add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "remainder", "atan2")
def binary(draw, op):
    dtype, d = draw(st.sampled_from(FLOATS)), draw(dims)
    return one(f"{shape(draw, dtype, d)} {op}(p0, p1)", shape(draw, dtype, d), shape(draw, dtype, d))


@instruction("and", "or", "xor", "shift-left", "shift-right-arithmetic", "shift-right-logical", "mulhi")
def bitwise(draw, op):
    dtype, d = draw(st.sampled_from(INTEGERS)), draw(dims)
    return one(f"{shape(draw, dtype, d)} {op}(p0, p1)", shape(draw, dtype, d), shape(draw, dtype, d))


@instruction("not", "popcnt", "count-leading-zeros")
def unary_bitwise(draw, op):
    dtype, d = draw(st.sampled_from(INTEGERS)), draw(dims)
    return one(f"{shape(draw, dtype, d)} {op}(p0)", shape(draw, dtype, d))


@instruction(
    *("abs", "ceil", "floor", "negate", "round-nearest-afz", "round-nearest-even", "sign", "copy"),
    *("acos", "acosh", "asin", "asinh", "atanh", "cbrt", "cosine", "cosh", "erf", "exponential", "log2", "exp2"),
    *("exponential-minus-one", "log", "log-plus-one", "logistic", "rsqrt", "sine", "sinh", "sqrt", "tan", "tanh"),
)
def unary(draw, op):
    dtype, d = draw(st.sampled_from(FLOATS)), draw(dims)
    return one(f"{shape(draw, dtype, d)} {op}(p0)", shape(draw, dtype, d))


@instruction("is-finite")
def is_finite(draw, op):
    d = draw(dims)
    return one(f"{shape(draw, 'pred', d)} {op}(p0)", shape(draw, draw(st.sampled_from(FLOATS)), d))


@instruction("convert", "bitcast-convert", "bitcast")
def convert(draw, op):
    d = draw(dims)
    before, after = ("f32", "s32") if op == "bitcast-convert" else (draw(st.sampled_from(NUMBERS)),) * 2
    after = draw(st.sampled_from(NUMBERS)) if op == "convert" else after
    return one(f"{shape(draw, after, d)} {op}(p0)", shape(draw, before, d))


@instruction("compare")
def compare(draw, op):
    d, dtype = draw(dims), draw(st.sampled_from(NUMBERS))
    return one(f"{shape(draw, 'pred', d)} compare(p0, p1), direction=EQ", *[shape(draw, dtype, d)] * 2)


@instruction("select", "clamp")
def ternary(draw, op):
    d, dtype = draw(dims), draw(st.sampled_from(FLOATS))
    first = "pred" if op == "select" else dtype
    return one(f"{shape(draw, dtype, d)} {op}(p0, p1, p2)", *[shape(draw, kind, d) for kind in (first, dtype, dtype)])


@instruction("complex")
def complex_(draw, op):
    d = draw(dims)
    return one(f"{shape(draw, 'c64', d)} complex(p0, p1)", *[shape(draw, "f32", d)] * 2)


@instruction("real", "imag")
def real(draw, op):
    d = draw(dims)
    return one(f"{shape(draw, 'f64', d)} {op}(p0)", shape(draw, "c128", d))


@instruction("reduce-precision")
def reduce_precision(draw, op):
    d = draw(dims)
    return one(f"{shape(draw, 'f32', d)} {op}(p0), exponent_bits=5, mantissa_bits=10", shape(draw, "f32", d))


@instruction("stochastic-convert")
def stochastic_convert(draw, op):
    d = draw(dims)
    return one(f"{shape(draw, 's8', d)} {op}(p0, p1)", shape(draw, "f32", d), shape(draw, "u32", d))


@instruction("dot")
def dot(draw, op):
    batch, left, right, inner = (draw(st.lists(extent, max_size=2)) for _ in range(4))
    dtype = draw(st.sampled_from(NUMBERS))
    lhs = draw(
        st.permutations(
            [("b", i, n) for i, n in enumerate(batch)]
            + [("l", i, n) for i, n in enumerate(left)]
            + [("k", i, n) for i, n in enumerate(inner)]
        )
    )
    rhs = draw(
        st.permutations(
            [("b", i, n) for i, n in enumerate(batch)]
            + [("r", i, n) for i, n in enumerate(right)]
            + [("k", i, n) for i, n in enumerate(inner)]
        )
    )

    def places(side, kind):
        return joined(p for i in range(4) for p, (k, j, _) in enumerate(side) if k == kind and j == i)

    out = [*batch, *[n for k, _, n in lhs if k == "l"], *[n for k, _, n in rhs if k == "r"]]
    attributes = (
        f"lhs_batch_dims={{{places(lhs, 'b')}}}, rhs_batch_dims={{{places(rhs, 'b')}}}, "
        f"lhs_contracting_dims={{{places(lhs, 'k')}}}, rhs_contracting_dims={{{places(rhs, 'k')}}}"
    )
    operands = shape(draw, dtype, [n for *_, n in lhs]), shape(draw, dtype, [n for *_, n in rhs])
    if prod(out) * prod(inner) >= 2**58 or max(prod(out), *(prod(n for *_, n in s) for s in (lhs, rhs))) >= 2**50:
        out, operands, attributes = [], ("f32[3]", "f32[3]"), "lhs_contracting_dims={0}, rhs_contracting_dims={0}"
        dtype = "f32"
    return one(f"{shape(draw, dtype, out)} dot(p0, p1), {attributes}", *operands)


@instruction("ragged-dot")
def ragged_dot(draw, op):
    m, k, n, g = (draw(positive) for _ in range(4))
    dtype = draw(st.sampled_from(("f32", "bf16")))
    mode = draw(st.sampled_from(["m", "k"]))
    if mode == "m":
        shapes, out, ragged, group = ([m, k], [g, k, n]), [m, n], 0, "rhs_group_dims={0}"
        contract = "lhs_contracting_dims={1}, rhs_contracting_dims={1}"
    else:
        shapes, out, ragged, group = ([m, k], [k, n]), [g, m, n], 1, "rhs_group_dims={}"
        contract = "lhs_contracting_dims={1}, rhs_contracting_dims={0}"
    return one(
        f"{shape(draw, dtype, out)} ragged-dot(p0, p1, p2), {contract}, lhs_ragged_dims={{{ragged}}}, {group}",
        *[shape(draw, dtype, s) for s in shapes],
        f"s32[{g}]",
    )


@instruction("convolution")
def convolution(draw, op):
    spatial = draw(st.integers(0, 3))
    groups = draw(st.sampled_from(["none", "feature", "batch"]))
    g = draw(st.integers(1, 3)) if groups != "none" else 1
    batch, channels, features = (draw(st.integers(1, 5)) for _ in range(3))
    batch *= g if groups == "batch" else 1
    kernel, source, out, parts = [], [], [], []
    for _ in range(spatial):
        size, n = draw(st.integers(1, 7)), draw(st.integers(1, 12))
        stride, window, base = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
        low, high = draw(st.integers(-2, 9)), draw(st.integers(-2, 9))
        span = (n - 1) * base + 1 + low + high
        reach = (size - 1) * window + 1
        kernel.append(size)
        source.append(n)
        out.append(max(0, (span - reach) // stride + 1))
        parts.append((size, stride, f"{low}_{high}", base, window))
    columns = [joined_x(column) for column in zip(*parts, strict=True)] if parts else []
    names = ("size", "stride", "pad", "lhs_dilate", "rhs_dilate")
    window = f"window={{{' '.join(f'{n}={c}' for n, c in zip(names, columns, strict=True))}}}, " if parts else ""
    digits = "".join(map(str, range(spatial)))
    lhs = draw(st.permutations([*digits, "b", "f"]))
    rhs = draw(st.permutations([*digits, "i", "o"]))
    result = draw(st.permutations([*digits, "b", "f"]))
    feature = features * g

    def extents(labels, spatial_extents, **named):
        return [named[x] if x in named else spatial_extents[int(x)] for x in labels]

    text = (
        f"{shape(draw, 'f32', extents(result, out, b=batch // (g if groups == 'batch' else 1), f=feature))} "
        f"convolution(p0, p1), {window}dim_labels={''.join(lhs)}_{''.join(rhs)}->{''.join(result)}"
    )
    text += f", feature_group_count={g}" if groups == "feature" else ""
    text += f", batch_group_count={g}" if groups == "batch" else ""
    whole = channels * (g if groups == "feature" else 1)
    return one(
        text,
        shape(draw, "f32", extents(lhs, source, b=batch, f=whole)),
        shape(draw, "f32", extents(rhs, kernel, i=channels, o=feature)),
    )


def joined_x(values) -> str:
    return "x".join(map(str, values))


@instruction("reduce")
def reduce(draw, op):
    d = draw(dims)
    gone = draw(st.sets(st.sampled_from(range(len(d))))) if d else set()
    kept = [n for i, n in enumerate(d) if i not in gone]
    pairs = draw(st.booleans())
    kind = draw(st.sampled_from(["add", "power", "atan2"]))
    dimensions = f"dimensions={{{joined(sorted(gone))}}}, to_apply=c"
    if not pairs:
        return one(
            f"{shape(draw, 'f32', kept)} reduce(p0, p1), {dimensions}",
            shape(draw, "f32", d),
            "f32[]",
            before=reducer(kind),
        )
    before = """c {
  a = f32[] parameter(0)
  b = s32[] parameter(1)
  d = f32[] parameter(2)
  e = s32[] parameter(3)
  f = pred[] compare(a, d), direction=GT
  g = f32[] select(f, a, d)
  h = s32[] select(f, b, e)
  ROOT i = (f32[], s32[]) tuple(g, h)
}
"""
    return one(
        f"({shape(draw, 'f32', kept)}, {shape(draw, 's32', kept)}) reduce(p0, p1, p2, p3), {dimensions}",
        shape(draw, "f32", d),
        shape(draw, "s32", d),
        "f32[]",
        "s32[]",
        before=before,
    )


def window(draw, rank: int):
    sizes = [draw(st.integers(1, 5)) for _ in range(rank)]
    strides = [draw(st.integers(1, 3)) for _ in range(rank)]
    pads = [(draw(st.integers(-1, 4)), draw(st.integers(-1, 4))) for _ in range(rank)]
    text = f"window={{size={joined_x(sizes)} stride={joined_x(strides)} pad={'x'.join(f'{a}_{b}' for a, b in pads)}}}"
    return sizes, strides, pads, text


@instruction("reduce-window")
def reduce_window(draw, op):
    d = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    if draw(st.booleans()):
        # A reduce that is broadcast back, or almost one.
        at = draw(st.integers(0, len(d) - 1))
        n = d[at]
        size = draw(st.sampled_from([2 * n - 1, 2 * n - 1, 2 * n, n]))
        low, high = draw(st.sampled_from([(n - 1, n - 1), (n - 1, n - 1), (n - 1, 0), (n, n)]))
        sizes = [size if i == at else 1 for i in range(len(d))]
        pads = [f"{low}_{high}" if i == at else "0_0" for i in range(len(d))]
        out = [max(0, n + low + high - size + 1) if i == at else e for i, e in enumerate(d)]
        text = f"window={{size={joined_x(sizes)} pad={'x'.join(pads)}}}"
    else:
        sizes, strides, pads, text = window(draw, len(d))
        out = [max(0, (n + a + b - s) // t + 1) for n, s, t, (a, b) in zip(d, sizes, strides, pads, strict=True)]
    return one(
        f"{shape(draw, 'f32', out)} reduce-window(p0, p1), {text}, to_apply=c",
        shape(draw, "f32", d),
        "f32[]",
        before=reducer(draw(st.sampled_from(["add", "power"]))),
    )


@instruction("select-and-scatter")
def select_and_scatter(draw, op):
    d = draw(st.lists(st.integers(5, 12), min_size=1, max_size=3))
    sizes, strides, pads, text = window(draw, len(d))
    out = [max(0, (n + a + b - s) // t + 1) for n, s, t, (a, b) in zip(d, sizes, strides, pads, strict=True)]
    before = (
        "g {\n  a = f32[] parameter(0)\n  b = f32[] parameter(1)\n  ROOT r = pred[] compare(a, b), direction=GE\n}\n"
    )
    return one(
        f"{shape(draw, 'f32', d)} select-and-scatter(p0, p1, p2), {text}, select=g, scatter=c",
        shape(draw, "f32", d),
        shape(draw, "f32", out),
        "f32[]",
        before=before + reducer(draw(st.sampled_from(["add", "power"]))),
    )


@instruction("map")
def map_(draw, op):
    d = draw(dims)
    return one(
        f"{shape(draw, 'f32', d)} map(p0, p1), dimensions={{{joined(range(len(d)))}}}, to_apply=c",
        *[shape(draw, "f32", d)] * 2,
        before=reducer(draw(st.sampled_from(["add", "power"]))),
    )


@instruction("sort")
def sort(draw, op):
    d = draw(dims.filter(bool))
    dimension = draw(st.integers(0, len(d) - 1))
    before = (
        "g {\n  a = f32[] parameter(0)\n  b = f32[] parameter(1)\n{}  ROOT r = pred[] compare(a, b), direction=LT\n}\n"
    )
    if draw(st.booleans()):
        return one(
            f"{shape(draw, 'f32', d)} sort(p0), dimensions={{{dimension}}}, to_apply=g",
            shape(draw, "f32", d),
            before=before.replace("{}", ""),
        )
    return one(
        f"({shape(draw, 'f32', d)}, {shape(draw, 's8', d)}) sort(p0, p1), dimensions={{{dimension}}}, to_apply=g",
        shape(draw, "f32", d),
        shape(draw, "s8", d),
        before=before.replace("{}", "  d = s8[] parameter(2)\n  e = s8[] parameter(3)\n"),
    )


@instruction("topk")
def topk(draw, op):
    rows, n = draw(positive), draw(positive)
    k = draw(st.integers(1, n))
    return one(f"(f32[{rows},{k}], s32[{rows},{k}]) topk(p0), k={k}, largest=true", shape(draw, "f32", [rows, n]))


@instruction("fft")
def fft(draw, op):
    d = draw(st.lists(positive, min_size=1, max_size=3))
    n = draw(st.integers(1, len(d)))
    return one(f"{shape(draw, 'c64', d)} fft(p0), fft_type=FFT, fft_length={{{joined(d[-n:])}}}", shape(draw, "c64", d))


@instruction("cholesky")
def cholesky(draw, op):
    # n^2 |batch| n stays below 2^63: beyond, XLA divides a number that has wrapped.
    batch, n, dtype = (
        draw(st.lists(st.integers(1, 9), max_size=2)),
        draw(positive),
        draw(st.sampled_from(FLOATS + COMPLEX)),
    )
    return one(f"{shape(draw, dtype, [*batch, n, n])} cholesky(p0), lower=true", shape(draw, dtype, [*batch, n, n]))


@instruction("triangular-solve")
def triangular_solve(draw, op):
    batch, n, m, dtype = (
        draw(st.lists(st.integers(1, 9), max_size=2)),
        draw(positive),
        draw(positive),
        draw(st.sampled_from(FLOATS + COMPLEX)),
    )
    return one(
        f"{shape(draw, dtype, [*batch, n, m])} triangular-solve(p0, p1), left_side=true, lower=true, "
        "transpose_a=NO_TRANSPOSE",
        shape(draw, dtype, [*batch, n, n]),
        shape(draw, dtype, [*batch, n, m]),
    )


@instruction("batch-norm-inference")
def batch_norm(draw, op):
    d, c = draw(small), draw(positive)
    return one(
        f"{shape(draw, 'f32', [*d, c])} {op}(p0, p1, p2, p3, p4), epsilon=0.001, feature_index={len(d)}",
        shape(draw, "f32", [*d, c]),
        *[f"f32[{c}]"] * 4,
    )


@instruction("batch-norm-training")
def batch_norm_training(draw, op):
    d, c = draw(small), draw(positive)
    return one(
        f"({shape(draw, 'f32', [*d, c])}, f32[{c}], f32[{c}]) {op}(p0, p1, p2), epsilon=0.001, feature_index={len(d)}",
        shape(draw, "f32", [*d, c]),
        *[f"f32[{c}]"] * 2,
    )


@instruction("batch-norm-grad")
def batch_norm_grad(draw, op):
    d, c = draw(small), draw(positive)
    whole = shape(draw, "f32", [*d, c])
    return one(
        f"({whole}, f32[{c}], f32[{c}]) {op}(p0, p1, p2, p3, p4), epsilon=0.001, feature_index={len(d)}",
        whole,
        *[f"f32[{c}]"] * 3,
        whole,
    )


@instruction("rng")
def rng(draw, op):
    d = draw(dims)
    return one(f"{shape(draw, 'f32', d)} rng(p0, p1), distribution=rng_uniform", "f32[]", "f32[]")


@instruction("rng-bit-generator")
def rng_bits(draw, op):
    d = draw(dims)
    return one(f"(u64[2], {shape(draw, 'u32', d)}) rng-bit-generator(p0), algorithm=rng_default", "u64[2]")


@instruction("rng-get-and-update-state")
def rng_state(draw, op):
    return one(f"u64[{draw(positive)}] rng-get-and-update-state(), delta=2")


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


@instruction("gather")
def gather(draw, op):
    rows, width, n = draw(positive), draw(positive), draw(extent)
    kind = draw(st.sampled_from(["s32", "u8", "s64"]))
    return one(
        f"{shape(draw, 'f32', [n, width])} gather(p0, p1), offset_dims={{1}}, collapsed_slice_dims={{0}}, "
        f"start_index_map={{0}}, index_vector_dim=1, slice_sizes={{1,{width}}}",
        shape(draw, "f32", [rows, width]),
        f"{kind}[{n}]",
    )


@instruction("scatter")
def scatter(draw, op):
    rows, width, n = draw(positive), draw(positive), draw(extent)
    numbers = (
        "update_window_dims={1}, inserted_window_dims={0}, scatter_dims_to_operand_dims={0}, index_vector_dim=1, "
        "to_apply=c"
    )
    if draw(st.booleans()):
        return one(
            f"{shape(draw, 'f32', [rows, width])} scatter(p0, p1, p2), {numbers}",
            shape(draw, "f32", [rows, width]),
            f"s32[{n}]",
            shape(draw, "f32", [n, width]),
            before=reducer(draw(st.sampled_from(["add", "power"]))),
        )
    before = """c {
  a = f32[] parameter(0)
  b = s8[] parameter(1)
  d = f32[] parameter(2)
  e = s8[] parameter(3)
  f = f32[] add(a, d)
  ROOT i = (f32[], s8[]) tuple(f, e)
}
"""
    return one(
        f"({shape(draw, 'f32', [rows, width])}, s8[{rows},{width}]) scatter(p0, p1, p2, p3, p4), {numbers}",
        shape(draw, "f32", [rows, width]),
        f"s8[{rows},{width}]",
        f"s32[{n}]",
        shape(draw, "f32", [n, width]),
        f"s8[{n},{width}]",
        before=before,
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


@instruction("custom-call")
def custom_call(draw, op):
    target = draw(st.sampled_from(["foo", "Sharding", "__xla_internal_call_marker_before"]))
    return one(f'{shape(draw, "f32", draw(dims))} custom-call(p0), custom_call_target="{target}"', "f32[9]")


@instruction("all-reduce")
def all_reduce(draw, op):
    d, e = draw(dims), draw(dims)
    if draw(st.booleans()):
        return one(
            f"{shape(draw, 'f32', d)} all-reduce(p0), replica_groups={{}}, to_apply=c",
            shape(draw, "f32", d),
            before=reducer(),
        )
    return one(
        f"({shape(draw, 'f32', d)}, {shape(draw, 'f32', e)}) all-reduce(p0, p1), replica_groups={{}}, to_apply=c",
        shape(draw, "f32", d),
        shape(draw, "f32", e),
        before=reducer(),
    )


@instruction("all-reduce-start", "all-reduce-done")
def all_reduce_start(draw, op):
    d = draw(dims)
    whole = shape(draw, "f32", d)
    start = f"{whole} all-reduce-start(p0), replica_groups={{}}, to_apply=c"
    if op == "all-reduce-start":
        return one(start, whole, before=reducer())
    return _after(start, whole, op, reducer())


def _after(start: str, whole: str, op: str, before: str = "", result: str = "") -> bytes:
    return from_text(
        f"{before}ENTRY e {{\n  p0 = {whole} parameter(0)\n  s = {start}\n  ROOT r = {result or whole} {op}(s)\n}}\n"
    )


@instruction("all-gather", "all-to-all", "collective-broadcast", "reduce-scatter", "collective-permute")
def exchange(draw, op):
    d = draw(dims.filter(bool))
    whole = shape(draw, "f32", d)
    out = shape(draw, "f32", [2 * d[0], *d[1:]])
    if op == "all-gather":
        return one(f"{out} all-gather(p0), replica_groups={{{{0,1}}}}, dimensions={{0}}", whole)
    if op == "reduce-scatter":
        return one(
            f"{whole} reduce-scatter(p0), replica_groups={{{{0,1}}}}, dimensions={{0}}, to_apply=c",
            out,
            before=reducer(),
        )
    if op == "collective-permute":
        return one(f"{whole} collective-permute(p0), source_target_pairs={{{{0,1}},{{1,0}}}}", whole)
    dimensions = ", dimensions={0}" if op == "all-to-all" else ""
    return one(f"{whole} {op}(p0), replica_groups={{{{0,1}}}}{dimensions}", whole)


@instruction("all-gather-start", "all-gather-done")
def all_gather_start(draw, op):
    n = draw(positive)
    start = f"(f32[{n}], f32[{2 * n}]) all-gather-start(p0), replica_groups={{{{0,1}}}}, dimensions={{0}}"
    return one(start, f"f32[{n}]") if op.endswith("start") else _after(start, f"f32[{n}]", op, result=f"f32[{2 * n}]")


@instruction("collective-permute-start", "collective-permute-done")
def permute_start(draw, op):
    whole = f"f32[{draw(positive)}]"
    start = f"({whole}, {whole}, u32[], u32[]) collective-permute-start(p0), source_target_pairs={{{{0,1}}}}"
    return one(start, whole) if op.endswith("start") else _after(start, whole, op)


@instruction("copy-start", "copy-done")
def copy_start(draw, op):
    whole = f"f32[{draw(positive)}]"
    start = f"({whole}, {whole}, u32[]) copy-start(p0)"
    return one(start, whole) if op.endswith("start") else _after(start, whole, op)


@instruction("async-start", "async-update", "async-done")
def async_(draw, op):
    whole = f"f32[{draw(positive)}]"
    before = f"g {{\n  a = {whole} parameter(0)\n  ROOT b = {whole} exponential(a)\n}}\n"
    made = f"(({whole}), {whole}, u32[])"
    start = f"{made} async-start(p0), calls=g"
    if op == "async-start":
        return one(start, whole, before=before)
    return _after(start, whole, op, before, made if op == "async-update" else whole)


@instruction("partition-id", "replica-id")
def ids(draw, op):
    return one(f"u32[] {op}()")


@instruction("infeed")
def infeed(draw, op):
    d, e = draw(dims), draw(dims)
    return one(f"((f32[{joined(d)}], (s8[{joined(e)}])), token[]) infeed(p0)", "token[]")


@instruction("outfeed")
def outfeed(draw, op):
    whole = f"(f32[{joined(draw(dims))}], s8[{joined(draw(dims))}])"
    return one(f"token[] outfeed(p0, p1), outfeed_shape={whole}", whole, "token[]")


@instruction("send", "send-done", "recv", "recv-done")
def send(draw, op):
    whole = f"f32[{draw(positive)}]"
    kind, end = op.split("-")[0], op.endswith("done")
    first = (
        f"({whole}, u32[], token[]) send(p0, t), channel_id=1"
        if kind == "send"
        else f"({whole}, u32[], token[]) recv(t), channel_id=1"
    )
    result = "token[]" if kind == "send" else f"({whole}, token[])"
    last = f"  ROOT d = {result} {kind}-done(s), channel_id=1\n" if end else ""
    return from_text(
        f"ENTRY e {{\n  p0 = {whole} parameter(0)\n  t = token[] after-all()\n  {'' if end else 'ROOT '}s = {first}\n"
        f"{last}}}\n"
    )


@instruction("after-all", "add-dependency")
def after_all(draw, op):
    if op == "after-all":
        return one("token[] after-all(p0, p1)", "token[]", "token[]")
    whole = f"f32[{draw(positive)}]"
    return one(f"{whole} add-dependency(p0, p1)", whole, "token[]")


@instruction("domain")
def domain(draw, op):
    whole = f"f32[{draw(positive)}]"
    return one(
        f'{whole} domain(p0), domain={{kind="sharding", entry={{maximal device=0}}, exit={{maximal device=1}}}}', whole
    )


@instruction("get-dimension-size", "set-dimension-size")
def dimension_size(draw, op):
    n = draw(positive)
    if op == "get-dimension-size":
        return one("s32[] get-dimension-size(p0), dimensions={0}", f"f32[<={n},3]")
    return one(f"f32[<={n},3] set-dimension-size(p0, p1), dimensions={{0}}", f"f32[{n},3]", "s32[]")


@instruction("call")
def call(draw, op):
    whole = f"f32[{joined(draw(dims))}]"
    before = f"""g {{
  a = {whole} parameter(0)
  b = {whole} exponential(a)
  ROOT d = ({whole}, {whole}) tuple(b, a)
}}
"""
    return one(f"({whole}, {whole}) call(p0), to_apply=g", whole, before=before)


@instruction("while")
def while_(draw, op):
    whole = f"f32[{joined(draw(dims))}]"
    state = f"(s32[], {whole})"
    before = f"""body {{
  s = {state} parameter(0)
  i = s32[] get-tuple-element(s), index=0
  x = {whole} get-tuple-element(s), index=1
  o = s32[] constant(1)
  j = s32[] add(i, o)
  y = {whole} tanh(x)
  ROOT t = {state} tuple(j, y)
}}
cond {{
  s = {state} parameter(0)
  i = s32[] get-tuple-element(s), index=0
  n = s32[] constant(10)
  ROOT l = pred[] compare(i, n), direction=LT
}}
"""
    return one(f"{state} while(p0), condition=cond, body=body", state, before=before)


BRANCHES = (
    "exponential(a)",
    "negate(a)",
    "add(a, a)",
    'custom-call(a), custom_call_target="foo"',
    "copy(a)",
    "dot(a, a), lhs_contracting_dims={0}, rhs_contracting_dims={0}",
)


@instruction("conditional")
def conditional(draw, op):
    whole = f"f32[{draw(positive)}]"
    chosen = draw(st.lists(st.sampled_from(BRANCHES[:5]), min_size=1, max_size=4))
    before = "".join(
        f"g{i} {{\n  a = {whole} parameter(0)\n  ROOT b = {whole} {body}\n}}\n" for i, body in enumerate(chosen)
    )
    operands = joined(["p0", *["p1"] * len(chosen)])
    return one(
        f"{whole} conditional({operands}), branch_computations={{{joined(f'g{i}' for i in range(len(chosen)))}}}",
        "s32[]",
        whole,
        before=before,
    )


@instruction("scan")
def scan(draw, op):
    n, m = draw(positive), draw(positive)
    before = f"""c {{
  a = f32[{m}] parameter(0)
  b = f32[{m}] parameter(1)
  d = f32[{m}] power(a, b)
  e = f32[{m}] add(a, d)
  ROOT t = (f32[{m}], f32[{m}]) tuple(d, e)
}}
"""
    return one(
        f"(f32[{n},{m}], f32[{m}]) scan(p0, p1), dimensions={{0}}, num_carries=1, is_reverse=false, to_apply=c",
        f"f32[{n},{m}]",
        f"f32[{m}]",
        before=before,
    )


@instruction("scaled-dot")
def scaled_dot(draw, op):
    m, k, n = draw(positive), 32 * draw(positive), draw(positive)
    return one(
        f"f32[{m},{n}] scaled-dot(p0, p1, p2, p3), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}",
        f"f8e4m3fn[{m},{k}]",
        f"f8e4m3fn[{k},{n}]",
        f"f8e8m0fnu[{m},{k // 32}]",
        f"f8e8m0fnu[{k // 32},{n}]",
    )


@instruction("ragged-all-to-all")
def ragged_all_to_all(draw, op):
    whole = shape(draw, "f32", draw(dims.filter(bool)))
    return one(f"{whole} {op}(p0, p1, p2, p3, p4, p5), replica_groups={{{{0,1}}}}", whole, whole, *["s32[2]"] * 4)


@instruction("collective-reduce")
def collective_reduce(draw, op):
    whole = shape(draw, "f32", draw(dims))
    return one(f"{whole} {op}(p0), replica_groups={{{{0,1}}}}, to_apply=c", whole, before=reducer())


@instruction("shuffle")
def shuffle(draw, op):
    whole = shape(draw, "f32", draw(dims.filter(bool)))
    return one(f"{whole} shuffle(p0), dimensions={{0}}, mode=rotate, shifts={{1}}", whole)
