"""Arithmetic: elementwise, contractions, linear algebra, random numbers; one function draws one such instruction."""

from __future__ import annotations

from math import prod

from hypothesis import strategies as st

from hlo_oracle import one
from hlo_texts import (
    COMPLEX,
    FLOATS,
    INTEGERS,
    NUMBERS,
    dims,
    extent,
    instruction,
    joined,
    joined_x,
    positive,
    shape,
    small,
)


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
