"""Control flow, calls, collectives, and what has no cost. One function draws a module with one such instruction."""

from __future__ import annotations

from hypothesis import strategies as st

from hlo_oracle import from_text, one, reducer
from hlo_texts import dims, instruction, joined, positive, shape


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


@instruction("ragged-all-to-all")
def ragged_all_to_all(draw, op):
    whole = shape(draw, "f32", draw(dims.filter(bool)))
    return one(f"{whole} {op}(p0, p1, p2, p3, p4, p5), replica_groups={{{{0,1}}}}", whole, whole, *["s32[2]"] * 4)


@instruction("collective-reduce")
def collective_reduce(draw, op):
    whole = shape(draw, "f32", draw(dims))
    return one(f"{whole} {op}(p0), replica_groups={{{{0,1}}}}, to_apply=c", whole, before=reducer())
