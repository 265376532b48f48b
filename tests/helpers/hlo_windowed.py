"""A product whose weights travel around a ring of devices, as XLA's partitioner writes it ("windowed einsum").

Of four devices each has 8 rows of `x f32[32,16]` and 4 rows of `w f32[16,32]`. In each step a device multiplies the
columns of its rows that belong to the weights it has, and passes the weights on: four products of (8, 4) x (4, 32).
"""

from __future__ import annotations

DEVICES, ROWS, INNER, COLUMNS = 4, 8, 16, 32
PRODUCT = 2 * ROWS * (INNER // DEVICES) * COLUMNS
"""FLOPs of one step."""
WHOLE = DEVICES * PRODUCT
"""FLOPs of one device: its rows times all weights."""
WEIGHTS = 4 * (INNER // DEVICES) * COLUMNS
"""Bytes of the weights that a device has."""

_STEP = """
  {early}
  column{n} = {dtype}[] multiply(i{n}, width)
  columns{n} = f32[8,4] dynamic-slice(x, zero, column{n}), dynamic_slice_sizes={{8,4}}
  part{n} = f32[8,32] dot(columns{n}, w{n}), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}, {metadata}
  sum{m} = f32[8,32] add(sum{n}, part{n}), {metadata}
  {late}
  w{m} = f32[4,32] collective-permute-done(start{n})
  i{m} = {dtype}[] add(i{n}, one)
"""

_START = "start{n} = (f32[4,32], f32[4,32]) collective-permute-start(w{n}), channel_id={channel}, {pairs}, {metadata}"

# What the loop compares, by the form of its condition.
_CONDITIONS = {
    "constant": """
  bound = {dtype}[] constant({bound})
  ROOT r = pred[] compare(i, bound), direction=LT
""",
    "carried": """
  bound = {dtype}[] get-tuple-element(p), index=4
  ROOT r = pred[] compare(i, bound), direction=LT
""",
    "fusion": """
  bound = {dtype}[] get-tuple-element(p), index=4
  ROOT r = pred[] fusion(i, bound), kind=kLoop, calls=less
""",
    "call": """
  bound = {dtype}[] get-tuple-element(p), index=4
  wrapped = ({dtype}[], {dtype}[]) tuple(i, bound)
  ROOT r = pred[] call(wrapped), to_apply=less_of_pair
""",
    "unequal": """
  bound = {dtype}[] get-tuple-element(p), index=4
  ROOT r = pred[] compare(bound, i), direction=NE
""",
}
CONDITIONS = tuple(_CONDITIONS)


def windowed(
    condition: str = "constant",
    dtype: str = "u32",
    bound: str = "4",
    unrolled: int = 1,
    name: str = "jit(f)/mlp/dot_general",
    outside: str = "constant({bound})",
    *,
    early: bool = False,
) -> str:
    """Return the module as text.

    condition: one of CONDITIONS. bound: of the counter. unrolled: products in one iteration. outside: what the bound is
    outside of the loop.
    """
    carry = f"(f32[8,16], f32[4,32], f32[8,32], {dtype}[], {dtype}[])"
    metadata, pairs = f'metadata={{op_name="{name}"}}', "source_target_pairs={{0,1},{1,2},{2,3},{3,0}}"
    steps = ""
    for n in range(unrolled):
        start = _START.format(n=n, channel=n + 1, pairs=pairs, metadata=metadata)
        place = {"early": start, "late": ""} if early else {"early": "", "late": start}
        steps += _STEP.format(n=n, m=n + 1, dtype=dtype, metadata=metadata, **place)
    return f"""HloModule windowed, is_scheduled=true, num_partitions=4
less {{
  a = {dtype}[] parameter(0)
  b = {dtype}[] parameter(1)
  ROOT r = pred[] compare(a, b), direction=LT
}}
less_of_pair {{
  pair = ({dtype}[], {dtype}[]) parameter(0)
  a = {dtype}[] get-tuple-element(pair), index=0
  b = {dtype}[] get-tuple-element(pair), index=1
  ROOT r = pred[] compare(a, b), direction=LT
}}
body {{
  p = {carry} parameter(0)
  x = f32[8,16] get-tuple-element(p), index=0
  w0 = f32[4,32] get-tuple-element(p), index=1
  sum0 = f32[8,32] get-tuple-element(p), index=2
  i0 = {dtype}[] get-tuple-element(p), index=3
  bound = {dtype}[] get-tuple-element(p), index=4
  zero = {dtype}[] constant(0)
  one = {dtype}[] constant(1)
  width = {dtype}[] constant(4)
{steps}
  ROOT t = {carry} tuple(x, w{unrolled}, sum{unrolled}, i{unrolled}, bound)
}}
condition {{
  p = {carry} parameter(0)
  i = {dtype}[] get-tuple-element(p), index=3
{_CONDITIONS[condition].format(dtype=dtype, bound=bound)}
}}
ENTRY e {{
  x = f32[8,16] parameter(0)
  w = f32[4,32] parameter(1)
  numbers = s32[2] parameter(2)
  nothing = f32[] constant(0)
  sum = f32[8,32] broadcast(nothing), dimensions={{}}
  zero = {dtype}[] constant(0)
  first = s32[1] slice(numbers), slice={{[0:1]}}
  scalar = s32[] reshape(first)
  data = {dtype}[] convert(scalar)
  outside = {dtype}[] {outside.format(bound=bound)}
  t = {carry} tuple(x, w, sum, zero, outside)
  loop = {carry} while(t), condition=condition, body=body, metadata={{op_name="{name}"}}
  ROOT r = f32[8,32] get-tuple-element(loop), index=2
}}
"""
