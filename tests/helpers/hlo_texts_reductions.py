"""Opcodes that apply a small computation, and sorts. One function draws a module with one such instruction."""

from __future__ import annotations

from hypothesis import strategies as st

from hlo_oracle import one, reducer
from hlo_texts import dims, extent, instruction, joined, joined_x, positive, shape


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
