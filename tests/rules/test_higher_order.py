"""Higher-order primitives: what runs, and how often."""

from __future__ import annotations

import operator

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax import lax
from jax.sharding import PartitionSpec as P

import costax
from costax.errors import TripsError

X = jax.ShapeDtypeStruct((8, 8), jnp.float32)
MACS = 8 * 8 * 8


def macs(fn, *args, **options):
    return costax.analyze(fn, **options)(*args).total.macs


def matmul(c):
    return c @ c


# scan


@pytest.mark.parametrize("length", [0, 1, 2, 10, 10**12])
def test_scan_multiplies_by_length(length):
    def fn(x):
        return lax.scan(lambda c, _: (matmul(c), None), x, None, length=length)[0]

    assert macs(fn, X) == length * MACS


@pytest.mark.parametrize("options", [{"reverse": True}, {"unroll": 2}, {"unroll": True}])
def test_scan_counts_the_same_in_reverse_and_unrolled(options):
    def fn(x):
        return lax.scan(lambda c, _: (matmul(c), None), x, None, length=10, **options)[0]

    assert macs(fn, X) == 10 * MACS


@pytest.mark.parametrize("length", [0, 1, 3, 7, 8])
@pytest.mark.parametrize("unroll", [1, 2, 3, 10, True])
def test_xla_sees_the_copies_of_the_body_that_unrolling_leaves(length, unroll):
    def fn(x):
        return lax.scan(lambda c, _: (jnp.tanh(c @ c), None), x, None, length=length, unroll=unroll)[0]

    found = costax.compare(fn)(X)
    # XLA counts an addition and a comparison for the counter, too, where a loop is left.
    lowered = [(delta.cause, delta.flops, delta.transcendentals) for delta in found.deltas if delta.stage == "lowered"]
    assert lowered in ([], [("loop control", 2, 0)])


def test_scans_in_scans_multiply():
    def inner(c, _):
        return lax.scan(lambda c, _: (matmul(c), None), c, None, length=3)[0], None

    assert macs(lambda x: lax.scan(inner, x, None, length=5)[0], X) == 15 * MACS


def test_gradient_of_a_scan_costs_two_more_products_a_step():
    def fn(w, x):
        return lax.scan(lambda c, _: (c @ w, None), x, None, length=4)[0].sum()

    # forward, and in each backward step one product for the carry and one for the weights
    assert macs(jax.grad(fn), X, X) == 4 * MACS + 2 * 4 * MACS


def test_map_runs_once_for_each_element():
    assert macs(lambda xs: lax.map(matmul, xs), jax.ShapeDtypeStruct((7, 8, 8), jnp.float32)) == 7 * MACS


# while


LOOPS = {
    "counts up": lambda x: lax.fori_loop(0, 10, lambda i, c: matmul(c), x),
    "counts up from a negative": lambda x: lax.fori_loop(-3, 4, lambda i, c: matmul(c), x),
    "strides": lambda x: lax.while_loop(lambda s: s[0] < 10, lambda s: (s[0] + 3, matmul(s[1])), (0, x))[1],
    "counts down": lambda x: lax.while_loop(lambda s: s[0] > 0, lambda s: (s[0] - 2, matmul(s[1])), (9, x))[1],
    "includes the end": lambda x: lax.while_loop(lambda s: s[0] <= 4, lambda s: (s[0] + 1, matmul(s[1])), (0, x))[1],
    "bound on the left": lambda x: lax.while_loop(
        lambda s: lax.gt(5, s[0]), lambda s: (1 + s[0], matmul(s[1])), (0, x)
    )[1],
    "until equal": lambda x: lax.while_loop(lambda s: s[0] != 6, lambda s: (s[0] + 2, matmul(s[1])), (0, x))[1],
    "two steps in one": lambda x: lax.while_loop(lambda s: s[0] < 9, lambda s: ((s[0] + 1) + 1, matmul(s[1])), (0, x))[
        1
    ],
    "never": lambda x: lax.while_loop(lambda s: s[0] < 0, lambda s: (s[0] + 1, matmul(s[1])), (0, x))[1],
    "bound is carried": lambda x: lax.while_loop(
        lambda s: s[0] < s[1], lambda s: (s[0] + 1, s[1], matmul(s[2])), (0, 6, x)
    )[2],
    "bound through a jit": lambda x: jax.jit(
        lambda n, x: lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, matmul(s[1])), (0, x))[1]
    )(7, x),
    "bound computed": lambda x: lax.fori_loop(0, jnp.int32(3) * 2 + 1, lambda i, c: matmul(c), x),
    "start behind a conversion": lambda x: lax.while_loop(
        lambda s: s[0] < 5, lambda s: (s[0] + 1, matmul(s[1])), (jnp.asarray(np.int8(2)).astype(jnp.int32), x)
    )[1],
    "inside a scan": lambda x: lax.scan(
        lambda c, _: (lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, matmul(s[1])), (0, c))[1], None),
        x,
        None,
        length=2,
    )[0],
}


def runs(fn) -> int:
    """Run the program with a matrix product that counts itself."""
    count = 0

    def tick(c):
        nonlocal count
        count += 1
        return c

    def counting(c):
        return jax.pure_callback(tick, c, c)

    global matmul
    original = matmul
    matmul = counting
    try:
        jax.block_until_ready(jax.jit(lambda x: fn(x))(jnp.ones((8, 8))))
    finally:
        matmul = original
    return count


@pytest.mark.parametrize("name", LOOPS)
def test_known_trip_counts_are_those_of_the_running_program(name):
    analysis = costax.analyze(lambda x: LOOPS[name](x))(X)
    assert analysis.exact
    assert analysis.total.macs == runs(LOOPS[name]) * MACS


def doubled(n, times):
    for _ in range(times):
        n = n + n
    return n


UNKNOWN_LOOPS = {
    "ends on data": lambda x: lax.while_loop(lambda c: c.sum() < 3, matmul, x),
    "bound is an argument": lambda x, n: lax.fori_loop(0, n, lambda i, c: matmul(c), x),
    "step is data": lambda x, n: lax.while_loop(lambda s: s[0] < 9, lambda s: (s[0] + n, matmul(s[1])), (0, x))[1],
    "counter doubles": lambda x: lax.while_loop(lambda s: s[0] < 9, lambda s: (s[0] * 2, matmul(s[1])), (1, x))[1],
    "bound moves": lambda x: lax.while_loop(
        lambda s: s[0] < s[1], lambda s: (s[0] + 1, s[1] - 1, matmul(s[2])), (0, 9, x)
    )[2],
    "counter and bound change places": lambda x: lax.while_loop(
        lambda s: s[0] < s[1], lambda s: (s[1] + 1, s[0], matmul(s[2])), (0, 9, x)
    )[2],
    "counter wraps around": lambda x: lax.while_loop(
        lambda s: s[0] <= 127, lambda s: (s[0] + 1, matmul(s[1])), (jnp.int8(0), x)
    )[1],
    "condition narrows the counter": lambda x: lax.while_loop(
        lambda s: s[0].astype(jnp.int8) < 100, lambda s: (s[0] + 1, matmul(s[1])), (300, x)
    )[1],
    "bound is the outer counter": lambda x: lax.fori_loop(
        0, 1, lambda i, c: lax.while_loop(lambda s: s[0] < i + 5, lambda s: (s[0] + 1, matmul(s[1])), (0, c))[1], x
    ),
    "bound hangs on a long chain": lambda x, n: lax.fori_loop(0, doubled(n, 2000), lambda i, c: matmul(c), x),
    "steps away for ever": lambda x: lax.while_loop(lambda s: s[0] < 9, lambda s: (s[0] - 1, matmul(s[1])), (0, x))[1],
}


@pytest.mark.parametrize("name", UNKNOWN_LOOPS)
def test_unknown_trip_counts_are_named_and_can_be_answered(name):
    fn = UNKNOWN_LOOPS[name]
    args = [X, jax.ShapeDtypeStruct((), jnp.int32)][: fn.__code__.co_argcount]
    analysis = costax.analyze(fn)(*args)
    assert [unknown.place for unknown in analysis.unknowns] == ["while"]
    assert str(analysis.total.macs) == f"{MACS}*while"
    once = costax.analyze(fn, loops_once=True)(*args)
    assert not once.exact
    assert once.total.macs == MACS
    answered = costax.analyze(fn, trips={"while": 40})(*args)
    assert answered.exact
    assert answered.total.macs == 40 * MACS


RELATIONS = {"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "ne": operator.ne}


@hypothesis.given(
    st.sampled_from([np.int8, np.uint8]),
    st.sampled_from(sorted(RELATIONS)),
    st.integers(-128, 127),
    st.integers(-128, 127),
    st.sampled_from([-100, -7, -1, 0, 1, 3, 100]),
)
def test_trip_counts_of_narrow_counters_are_right_or_unknown(dtype, relation, start, end, step):
    wrapped = [np.asarray(value).astype(dtype) for value in (start, end, step)]
    counter, bound, by = wrapped
    runs = 0
    with np.errstate(over="ignore"):
        while RELATIONS[relation](counter, bound) and runs <= 256:
            counter, runs = (counter + by).astype(dtype), runs + 1

    def fn(x):
        i, end, step = map(jnp.asarray, wrapped)
        return lax.while_loop(
            lambda s: getattr(lax, relation)(s[0], end), lambda s: (s[0] + step, matmul(s[1])), (i, x)
        )[1]

    analysis = costax.analyze(fn)(X)
    assert analysis.total.macs == runs * MACS if not analysis.unknowns else analysis.symbols == ("while",)


def test_unknown_loops_are_named_after_their_scope():
    def fn(x):
        with jax.named_scope("solver"):
            for _ in range(2):
                x = lax.while_loop(lambda c: c.sum() < 3, matmul, x)
        return x

    places = ["solver/while", "solver/while_2"]
    assert [unknown.place for unknown in costax.analyze(fn)(X).unknowns] == places
    assert macs(fn, X, trips={places[0]: 2, places[1]: 5}) == 7 * MACS
    assert macs(fn, X, trips={"solver/*": 3}) == 6 * MACS


def test_an_answer_for_no_loop_is_an_error():
    with pytest.raises(TripsError, match="solver"):
        costax.analyze(matmul, trips={"solver/while": 2})(X)


def test_one_function_called_from_two_places_has_two_unknown_loops():
    @jax.jit
    def solve(x):
        return lax.while_loop(lambda c: c.sum() < 3, matmul, x)

    def fn(x):
        with jax.named_scope("first"):
            x = solve(x)
        with jax.named_scope("second"):
            return solve(x)

    assert {unknown.place for unknown in costax.analyze(fn)(X).unknowns} == {"first/while", "second/while"}
    assert macs(fn, X, trips={"first/while": 2, "second/while": 5}) == 7 * MACS


def test_the_condition_is_tried_once_more_than_it_holds():
    def fn(x):
        return lax.while_loop(lambda s: (s[0] < 10) & (matmul(s[1])[0, 0] > -1), lambda s: (s[0] + 1, s[1]), (0, x))[1]

    assert macs(fn, X, trips={"while": 10}) == 11 * MACS


# branches


def test_the_costliest_branch_is_charged():
    def fn(p, x):
        return lax.cond(p, lambda x: x @ x @ x, lambda x: x @ x, x)

    analysis = costax.analyze(fn)(jax.ShapeDtypeStruct((), jnp.bool_), X)
    assert analysis.total.macs == 2 * MACS
    branches = [node for _, _, node in analysis.tree.walk() if node.label.startswith("branch_")]
    assert [(node.once.macs, node.times) for node in branches] == [(MACS, 0), (2 * MACS, 1)]


def test_a_branch_that_does_nothing_is_no_primitive():
    analysis = costax.analyze(lambda x: lax.cond(x.sum() > 0, jnp.sin, lambda x: x, x))(X)
    assert set(analysis.by_primitive()) <= set(costax.rules())


def test_switch_charges_one_of_its_branches():
    def fn(i, x):
        return lax.switch(i, [lambda x: x, lambda x: x @ x, lambda x: jnp.sin(x)], x)

    assert macs(fn, jax.ShapeDtypeStruct((), jnp.int32), X) == MACS


def test_a_branch_that_the_program_fixes_is_taken():
    jaxpr = jax.make_jaxpr(lambda x: lax.switch(jnp.int32(0), [lambda x: x, lambda x: x @ x], x))(X)
    assert costax.analyze(jaxpr)().total.macs == 0


# calls


@jax.custom_jvp
def twice(x):
    return x @ x + x @ x


twice.defjvp(lambda primals, tangents: (twice(*primals), tangents[0] @ primals[0]))


@jax.custom_vjp
def thrice(x):
    return x @ x @ x @ x


thrice.defvjp(lambda x: (thrice(x), x), lambda x, g: (g @ x,))


@jax.custom_batching.custom_vmap
def batched_by_hand(x):
    return x @ x


@batched_by_hand.def_vmap
def _(axis_size, in_batched, xs):
    return jnp.matmul(xs @ xs, xs), True


CALLS = {
    "jit": (jax.jit(matmul), 1),
    "nested jit": (jax.jit(jax.jit(matmul)), 1),
    "checkpoint": (jax.checkpoint(matmul), 1),
    "custom_jvp": (twice, 2),
    "custom_vjp": (thrice, 3),
    "gradient of custom_vjp": (jax.grad(lambda x: thrice(x).sum()), 4 - 3),
    "value and gradient of custom_vjp": (jax.value_and_grad(lambda x: thrice(x).sum()), 3 + 1),
    "custom_vmap": (batched_by_hand, 1),
    "vmap of custom_vmap": (lambda x: jax.vmap(batched_by_hand)(x[None]), 2),
    "gradient": (jax.grad(lambda x: (x @ x).sum()), 2),
    "value and gradient": (jax.value_and_grad(lambda x: (x @ x).sum()), 3),
    "gradient of checkpoint": (jax.grad(lambda x: jax.checkpoint(lambda y: jnp.sin(y @ y))(x).sum()), 2 + 2 - 1),
    "jvp": (lambda x: jax.jvp(matmul, (x,), (x,)), 3),
    "custom_linear_solve": (
        lambda x: lax.custom_linear_solve(lambda v: x @ v, x, lambda matvec, b: matvec(matvec(b)), symmetric=True),
        2,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_run_their_body_once(name):
    fn, times = CALLS[name]
    assert macs(fn, X) == times * MACS


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_vmap_multiplies_by_the_batch(copies):
    batch = jax.ShapeDtypeStruct((copies, 8, 8), jnp.float32)
    assert macs(jax.vmap(matmul), batch) == copies * MACS
    assert macs(jax.vmap(jax.grad(lambda x: matmul(x).sum())), batch) == copies * 2 * MACS


def test_a_shared_function_is_charged_at_every_call():
    shared = jax.jit(matmul)
    assert macs(lambda x: shared(shared(shared(x))), X) == 3 * MACS


# combiners


def twice(f):
    return jax.jit(lambda *args: f(f(*args), *args[1:]))


@pytest.mark.parametrize(
    "loop",
    [
        lambda x, n: matmul(x),
        lambda x, n: lax.fori_loop(0, 3, lambda i, c: matmul(c), x),
        lambda x, n: lax.fori_loop(0, n, lambda i, c: matmul(c), x),
    ],
)
def test_forty_functions_that_call_the_next_one_twice_are_counted_at_once(loop):
    f = loop
    for _ in range(40):
        f = twice(f)
    analysis = costax.analyze(f)(X, jax.ShapeDtypeStruct((), jnp.int32))
    one = costax.analyze(loop)(X, jax.ShapeDtypeStruct((), jnp.int32))
    once = one.evaluate(dict.fromkeys(one.symbols, 3))
    assert analysis.evaluate(dict.fromkeys(analysis.symbols, 3)).total.macs == 2**40 * once.total.macs
    assert macs(lambda x: f(x, 5), X) == 2**40 * macs(lambda x: loop(x, 5), X)


def test_a_shared_loop_runs_as_often_as_each_call_says():
    loop = jax.jit(lambda x, n: lax.fori_loop(0, n, lambda i, c: matmul(c), x))
    assert macs(lambda x: loop(loop(loop(x, 3), 5), 3), X) == (3 + 5 + 3) * MACS


def test_an_answer_for_a_shared_loop_reaches_every_path_to_it():
    loop = jax.jit(lambda x, n: lax.fori_loop(0, n, lambda i, c: matmul(c), x))

    @jax.jit
    def layers(x, n):
        for name in ("a", "b"):
            with jax.named_scope(name):
                x = loop(x, n)
        return x

    def fn(x, n):
        for name in ("p", "q"):
            with jax.named_scope(name):
                x = layers(x, n)
        return x

    answers = {"p/a/while": 2, "p/b/while": 3, "q/*": 10}
    assert macs(fn, X, jax.ShapeDtypeStruct((), jnp.int32), trips=answers) == (2 + 3 + 10 + 10) * MACS


def test_a_general_reduction_runs_its_combiner_n_minus_one_times():
    def fn(x):
        return lax.reduce(x, jnp.float32(0), lambda a, b: a + b * b, (0,))

    analysis = costax.analyze(fn)(X)
    assert analysis.total.flops == 2 * (8 - 1) * 8
    assert analysis.by_primitive()["reduce"].flops == 2 * (8 - 1) * 8


@pytest.mark.parametrize(("method", "flops"), [("add", 5), ("multiply", 5), ("max", 5), ("set", 0)])
def test_scatter_combines_each_update(method, flops):
    def fn(x, i, u):
        return getattr(x.at[i], method)(u, mode="drop", unique_indices=True)

    specs = [costax.spec("f32[100]"), costax.spec("i32[5]"), costax.spec("f32[5]")]
    assert costax.analyze(fn)(*specs).total.flops == flops


# devices


def test_shard_map_counts_the_whole_mesh_and_one_device():
    mesh = jax.sharding.AbstractMesh((2, 4), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

    def fn(x):
        return jax.shard_map(lambda x: x @ x.T, mesh=mesh, in_specs=P("x", None), out_specs=P("x", None))(x)

    analysis = costax.analyze(fn)(jax.ShapeDtypeStruct((64, 8), jnp.float32))
    assert analysis.devices == 8
    assert analysis.per_device.macs == 32 * 32 * 8
    assert analysis.total.macs == 8 * 32 * 32 * 8


# kernels


def test_pallas_call_runs_the_kernel_at_every_grid_point():
    from jax.experimental import pallas as pl

    def kernel(x_ref, y_ref, o_ref):
        o_ref[...] = x_ref[...] @ y_ref[...]

    def fn(x, y):
        return pl.pallas_call(
            kernel,
            out_shape=jax.ShapeDtypeStruct((32, 64), jnp.float32),
            grid=(4, 2),
            in_specs=[pl.BlockSpec((8, 16), lambda i, j: (i, 0)), pl.BlockSpec((16, 32), lambda i, j: (0, j))],
            out_specs=pl.BlockSpec((8, 32), lambda i, j: (i, j)),
            interpret=True,
        )(x, y)

    specs = [costax.spec("f32[32,16]"), costax.spec("f32[16,64]")]
    assert macs(fn, *specs) == 32 * 16 * 64


# algebra of transformations


@pytest.mark.parametrize("length", [1, 3, 1000])
def test_scan_of_checkpoint_of_gradient_is_a_product(length):
    def loss(w, x):
        def layer(c, _):
            return jax.checkpoint(lambda c: jnp.tanh(c @ w))(c), None

        return lax.scan(layer, x, None, length=length)[0].sum()

    # forward, recomputed forward, and two products backward
    analysis = costax.analyze(jax.grad(loss))(X, X)
    assert analysis.total.macs == 4 * length * MACS
    assert analysis.by_direction()["recompute"].macs == length * MACS
    assert analysis.by_direction()["forward"].macs == length * MACS
    assert analysis.by_direction()["backward"].macs == 2 * length * MACS


def test_a_linear_transpose_is_forward_work_and_a_gradient_through_it_is_not():
    weights = jnp.ones((8, 8))

    def transposed(y):
        return jax.linear_transpose(lambda x: x @ weights, y)(y)[0]

    assert {direction: cost.macs for direction, cost in costax.analyze(transposed)(X).by_direction().items()} == {
        "forward": MACS
    }
    gradient = costax.analyze(jax.grad(lambda y: (transposed(y) ** 2).sum()))(X).by_direction()
    assert gradient["backward"].macs >= MACS
