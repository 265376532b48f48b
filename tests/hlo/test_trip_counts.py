"""Trip counts of loops in HLO: what the loop does when it is run step by step, and what XLA proves."""

from __future__ import annotations

import operator
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from costax import _jax
from costax.hlo import Instruction, Module, read_bytes, read_text
from costax.hlo.trip_counts import TripCounts
from costax.rules.higher_order.trip_count import steps

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

RELATIONS = {
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
    "NE": operator.ne,
    "EQ": operator.eq,
}
MOST = 2000


def whiles(module: Module) -> list[Instruction]:
    return [x for c in module.computations.values() for x in c.instructions if x.opcode == "while"]


def counts(hlo: str | bytes) -> list[int | None]:
    """The trip counts that the condition and the body say; what XLA proved is not looked at."""
    module = read_bytes(hlo) if isinstance(hlo, bytes) else read_text(hlo)
    for loop in whiles(module):
        loop.raw.backend_config = b""
    values = TripCounts(module)
    return [values.of(loop) for loop in whiles(module)]


def simulated(dtype, start, step, bound, relation) -> int | None:
    """Run `while (i relation bound) i += step` in the arithmetic of the dtype; None if it does not end soon."""
    i, bound, step = (np.array(x).astype(dtype) for x in (start, bound, step))
    for count in range(MOST):
        if not RELATIONS[relation](i, bound):
            return count
        i = (i + step).astype(dtype)
    return None


def loop_text(dtype, start, step, bound, relation, *, flipped=False, update="add"):
    sides = "c, i" if flipped else "i, c"
    return f"""
body {{
  p = (f32[4], {dtype}[]) parameter(0)
  x = f32[4] get-tuple-element(p), index=0
  i = {dtype}[] get-tuple-element(p), index=1
  s = {dtype}[] constant({step})
  j = {dtype}[] {update}(i, s)
  y = f32[4] add(x, x)
  ROOT t = (f32[4], {dtype}[]) tuple(y, j)
}}
cond {{
  p = (f32[4], {dtype}[]) parameter(0)
  i = {dtype}[] get-tuple-element(p), index=1
  c = {dtype}[] constant({bound})
  ROOT r = pred[] compare({sides}), direction={relation}
}}
ENTRY e {{
  z = {dtype}[] constant({start})
  x = f32[4] parameter(0)
  t = (f32[4], {dtype}[]) tuple(x, z)
  w = (f32[4], {dtype}[]) while(t), condition=cond, body=body
  ROOT r = f32[4] get-tuple-element(w), index=0
}}
"""


HEADER = "HloModule m\n"
MIRRORED = {"LT": "GT", "GT": "LT", "LE": "GE", "GE": "LE", "NE": "NE", "EQ": "EQ"}
CASES = [
    ("s32", 0, 1, 80, "LT"),
    ("s32", 0, 1, 80, "LE"),
    ("s32", 3, 7, 80, "LT"),
    ("s32", 80, -1, 0, "GT"),
    ("s32", 80, -3, 0, "GE"),
    ("s32", 0, 2, 80, "NE"),
    ("s32", 5, 1, 5, "EQ"),
    ("s32", 5, 1, 6, "EQ"),
    ("s32", 9, 1, 5, "LT"),
    ("s64", -20, 6, 100, "LE"),
    ("u32", 0, 1, 17, "LT"),
    ("u32", 17, 4294967295, 0, "GT"),
    ("s8", 0, 5, 100, "LT"),
    ("u8", 250, 5, 255, "LT"),
    ("s16", -300, 100, 300, "LE"),
]


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: "-".join(map(str, case)) if isinstance(case, tuple) else str(case)
)
def test_a_counted_loop_runs_as_often_as_step_by_step(case, flipped):
    dtype, start, step, bound, relation = case
    numpy_dtype = dtype.replace("s", "int").replace("u", "uint")
    expected = simulated(numpy_dtype, start, step, bound, relation)
    assert expected is not None
    text = loop_text(dtype, start, step, bound, MIRRORED[relation] if flipped else relation, flipped=flipped)
    assert counts(HEADER + text) == [expected]


@pytest.mark.parametrize("seed", range(3))
def test_random_loops_of_one_byte_are_right_or_unknown(seed):
    random = np.random.default_rng(seed)
    known = 0
    for _ in range(12):
        dtype, numpy_dtype, low = [("s8", np.int8, -128), ("u8", np.uint8, 0)][random.integers(2)]
        start, bound = (int(x) for x in random.integers(low, low + 256, 2))
        step = int(random.integers(-6 if low else 1, 7))
        relation = str(random.choice(list(RELATIONS)))
        module = read_bytes(_jax.hlo_from_text(HEADER + loop_text(dtype, start, step, bound, relation)))
        (loop,) = whiles(module)
        count = TripCounts(module).of(loop)
        if count is not None:
            known += 1
            assert count == simulated(numpy_dtype, start, step, bound, relation)
    assert known >= 3


@pytest.mark.parametrize(
    ("dtype", "start", "step", "bound", "relation"),
    [
        ("s8", 0, 5, 125, "LE"),  # 125 + 5 wraps around to -126, and the loop goes on
        ("u8", 3, 2, 0, "NE"),
        ("s32", 0, 0, 5, "LT"),
        ("u32", 0, 1, 0, "GE"),
    ],
)
def test_a_loop_that_wraps_around_or_does_not_end_has_no_count(dtype, start, step, bound, relation):
    assert counts(HEADER + loop_text(dtype, start, step, bound, relation)) == [None]


def test_a_counter_that_doubles_has_no_count():
    assert counts(HEADER + loop_text("s32", 1, 2, 80, "LT", update="multiply")) == [None]


NESTED = """
add_step (a: s32[], b: s32[]) -> s32[] {
  a = s32[] parameter(0)
  b = s32[] parameter(1)
  ROOT s = s32[] add(a, b)
}
less (a: s32[], b: s32[], flag: pred[]) -> pred[] {
  a = s32[] parameter(0)
  b = s32[] parameter(1)
  c = pred[] compare(a, b), direction=GE
  n = pred[] not(c)
  flag = pred[] parameter(2)
  ROOT r = pred[] and(n, flag)
}
body {
  p = ((s32[], s32[]), s32[], f32[4]) parameter(0)
  counters = (s32[], s32[]) get-tuple-element(p), index=0
  i = s32[] get-tuple-element(counters), index=0
  n = s32[] get-tuple-element(counters), index=1
  step = s32[] get-tuple-element(p), index=1
  x = f32[4] get-tuple-element(p), index=2
  j = s32[] fusion(i, step), kind=kLoop, calls=add_step
  inner = (s32[], s32[], f32[4]) tuple(i, n, x)
  copied = s32[] copy(n)
  new = (s32[], s32[]) tuple(j, copied)
  ROOT t = ((s32[], s32[]), s32[], f32[4]) tuple(new, step, x)
}
cond {
  p = ((s32[], s32[]), s32[], f32[4]) parameter(0)
  counters = (s32[], s32[]) get-tuple-element(p), index=0
  i = s32[] get-tuple-element(counters), index=0
  n = s32[] get-tuple-element(counters), index=1
  yes = pred[] constant(true)
  ten = s32[] constant(10)
  c = pred[] compare(i, ten), direction=LT
  ROOT r = pred[] fusion(i, n, FLAG), kind=kLoop, calls=less
}
main.1 (n: s32[], x: f32[4]) -> f32[4] {
  n = s32[] parameter(0)
  x = f32[4] parameter(1)
  two = s32[] constant(2)
  minus = s32[] constant(-3)
  start = s32[] add(minus, two)
  counters = (s32[], s32[]) tuple(start, n)
  t = ((s32[], s32[]), s32[], f32[4]) tuple(counters, two, x)
  w = ((s32[], s32[]), s32[], f32[4]) while(t), condition=cond, body=body
  ROOT r = f32[4] get-tuple-element(w), index=2
}
ENTRY e {
  x = f32[4] parameter(0)
  n = s32[] constant(30)
  m = s32[] OTHER
  y = f32[4] call(n, x), to_apply=main.1
  ROOT r = f32[4] call(m, y), to_apply=main.1
}
"""


@pytest.mark.parametrize(
    ("flag", "other", "expected"),
    [
        # From -1 in steps of 2 while smaller than 30, the bound of both calls.
        ("yes", "constant(30)", len(range(-1, 30, 2))),
        # Also smaller than 10.
        ("c", "constant(30)", len(range(-1, 10, 2))),
        # The two calls have different bounds, or one has an unknown bound.
        ("yes", "constant(31)", None),
        ("yes", "parameter(1)", None),
    ],
)
def test_tuples_fusions_calls_and_conjunctions_are_followed(flag, other, expected):
    text = HEADER + NESTED.replace("FLAG", flag).replace("OTHER", other)
    assert counts(text) == [expected]


def scanned(x):
    return lax.scan(lambda c, _: (jnp.tanh(c), None), x, None, length=7)[0]


def upto(x):
    n = jnp.int32(11)
    return jax.jit(lambda n, x: lax.fori_loop(2, 2 * n, lambda i, c: c * 1.5 + i, x))(n, x)


def nested(x):
    def outer(i, c):
        return lax.fori_loop(0, 6, lambda j, d: jnp.sin(d), c)

    return lax.fori_loop(0, 4, outer, x)


def down(x):
    return lax.while_loop(lambda c: c[0] > 3, lambda c: (c[0] - 4, jnp.cos(c[1])), (jnp.int32(40), x))[1]


PROGRAMS = {
    scanned: [7],
    upto: [len(range(2, 22))],
    nested: [6, 4],
    down: [len(range(40, 3, -4))],
}


@pytest.mark.parametrize("fn", PROGRAMS, ids=lambda fn: fn.__name__)
def test_loops_of_jax_are_known_before_xla_optimises_them(fn):
    lowered = jax.jit(fn).lower(jax.ShapeDtypeStruct((16,), jnp.float32))
    assert sorted(counts(_jax.hlo_of(lowered))) == sorted(PROGRAMS[fn])


@pytest.mark.parametrize("fn", PROGRAMS, ids=lambda fn: fn.__name__)
def test_what_the_compiled_loop_says_is_what_xla_proves(fn):
    compiled = _jax.hlo_of(jax.jit(fn).lower(jax.ShapeDtypeStruct((16,), jnp.float32)).compile())
    proved = [loop.known_trip_count for loop in whiles(read_bytes(compiled))]
    assert None not in proved
    assert counts(compiled) == proved


def test_a_loop_that_depends_on_data_has_no_count():
    def until(x):
        return lax.while_loop(lambda c: c.sum() < 9, lambda c: c * 2, x)

    lowered = jax.jit(until).lower(jax.ShapeDtypeStruct((16,), jnp.float32))
    assert counts(_jax.hlo_of(lowered)) == [None]


def test_an_equation_of_a_jaxpr_follows_the_same_law():
    import costax

    def once(x):
        return lax.while_loop(lambda c: c[0] == 0, lambda c: (c[0] + 1, jnp.cos(c[1])), (0, x))[1]

    assert costax.analyze(once)(jax.ShapeDtypeStruct((16,), jnp.float32)).total.transcendentals == 16
    assert steps("eq", 0, 0, 0) is None


def chained(length: int, step: str) -> str:
    """A loop whose counter passes through a long chain of instructions before it is compared."""
    lines = "\n".join(f"  v{n} = s32[] {step.format(n - 1)}" for n in range(1, length))
    text = loop_text("s32", 0, 1, 80, "LT")
    text = text.replace("  c = s32[] constant(80)", f"  v0 = s32[] copy(i)\n{lines}\n  c = s32[] constant(80)")
    return HEADER + text.replace("compare(i, c)", f"compare(v{length - 1}, c)")


def test_copies_of_any_number_are_followed():
    assert counts(chained(5000, "copy(v{0})")) == [80]


@pytest.mark.parametrize("step", ["add(v{0}, v{0})", "subtract(v{0}, v{0})", "negate(v{0})"])
def test_a_hostile_chain_ends_soon_without_a_count(step):
    start = time.process_time()
    module = read_bytes(_jax.hlo_from_text(chained(3000, step)))
    assert [TripCounts(module).of(loop) for loop in whiles(module)] == [None]
    assert time.process_time() - start < 20


@pytest.mark.parametrize("depth", [1, 8, 200])
def test_loops_in_loops_have_their_counts(depth):
    text = "leaf (p: s32[]) -> s32[] {\n  ROOT p = s32[] parameter(0)\n}\n"
    for n in range(depth):
        text += f"""
body{n} (p: (s32[], s32[])) -> (s32[], s32[]) {{
  p = (s32[], s32[]) parameter(0)
  i = s32[] get-tuple-element(p), index=0
  n = s32[] get-tuple-element(p), index=1
  one = s32[] constant(1)
  j = s32[] add(i, one)
  {
            f'''zero = s32[] constant(0)
  t = (s32[], s32[]) tuple(zero, n)
  w = (s32[], s32[]) while(t), condition=cond{n - 1}, body=body{n - 1}
  m = s32[] get-tuple-element(w), index=1'''
            if n
            else "m = s32[] copy(n)"
        }
  ROOT r = (s32[], s32[]) tuple(j, m)
}}
cond{n} (p: (s32[], s32[])) -> pred[] {{
  p = (s32[], s32[]) parameter(0)
  i = s32[] get-tuple-element(p), index=0
  n = s32[] get-tuple-element(p), index=1
  ROOT r = pred[] compare(i, n), direction=LT
}}
"""
    text += f"""ENTRY e {{
  zero = s32[] constant(0)
  three = s32[] constant(3)
  t = (s32[], s32[]) tuple(zero, three)
  ROOT w = (s32[], s32[]) while(t), condition=cond{depth - 1}, body=body{depth - 1}
}}
"""
    found = counts(HEADER + text)
    # Where the bound would have to be followed through too many loops, the count is not known.
    assert set(found) == ({3} if depth < 10 else {None})
