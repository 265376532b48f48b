"""Loops whose length is not in the program: symbols, answers, and what running says."""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import costax
from costax.errors import BranchError, InputError, SymbolError, TripsError


def halved(x):
    return lax.while_loop(lambda c: c > 1.0, lambda c: c / 2, x)


def nested(limit):
    """Outer step i runs the inner loop i*i times."""

    def outer(state):
        i, total = state
        with jax.named_scope("inner"):
            total = lax.while_loop(lambda s: s[1] < i * i, lambda s: (s[0] * 2.0 + 1, s[1] + 1), (total, 0))[0]
        return i + 1, total

    with jax.named_scope("outer"):
        return lax.while_loop(lambda s: s[0] * s[0] < limit, outer, (0, 1.0))


def test_an_unknown_loop_is_a_symbol_named_after_its_place():
    analysis = costax.analyze(nested)(jnp.int32(26))
    assert analysis.symbols == ("outer/inner/while", "outer/while")
    assert analysis.exactness == "symbolic"
    # two operations in each inner run
    assert str(analysis.total.flops) == "2*outer/inner/while*outer/while"
    answered = costax.analyze(nested, trips={"*": 10})(jnp.int32(26))
    assert answered.total == analysis.evaluate({"outer/inner/while": 10, "outer/while": 10}).total
    assert analysis.evaluate({"outer/inner/while": 0, "outer/while": 0}).total.flops == 0


def test_running_counts_the_trips_of_nested_loops():
    trips = costax.count_trips(nested)(jnp.int32(26))
    # i = 0 ... 5 with i*i < 26, each with i*i inner runs
    assert trips == {"outer/while": 6, "outer/inner/while": Fraction(sum(i * i for i in range(6)), 6)}
    assert costax.analyze(nested, trips=trips)(jnp.int32(26)).total.flops == 2 * sum(i * i for i in range(6))


def test_a_batched_loop_runs_until_its_last_example_is_done():
    xs = jnp.array([3.0, 100.0, 1.0])
    assert costax.count_trips(jax.vmap(halved))(xs) == {"while": 7}
    assert costax.count_trips(lambda xs: lax.map(halved, xs))(xs) == {"while": Fraction(2 + 7 + 0, 3)}
    assert costax.count_trips(jax.vmap(nested))(jnp.array([3, 26])) == {
        "outer/while": 6,
        "outer/inner/while": Fraction(55, 6),
    }


@pytest.mark.parametrize(
    ("fn", "args", "trips"),
    [
        (jax.jit(halved), (1000.0,), {"while": 10}),
        (lambda x: lax.scan(lambda c, v: (c + halved(v), v), 0.0, x)[0], (jnp.array([3.0, 100.0]),), {"while": 9 / 2}),
        (lambda x, k: lax.switch(k, [lambda v: v, halved], x), (jnp.float32(9), 1), {"while": 4}),
        (lambda x, k: lax.switch(k, [lambda v: v, halved], x), (jnp.float32(9), 0), {"while": 0}),
        (lambda x: lax.fori_loop(0, 3, lambda i, c: c + halved(8.0 + c), x), (0.0,), {"while": Fraction(11, 3)}),
        (jax.checkpoint(halved), (8.0,), {"while": 3}),
        (lambda n: lax.fori_loop(0, n, lambda i, c: c + 1.0, 0.0), (12,), {"while": 12}),
        (lambda x: jnp.sin(x), (1.0,), {}),
        (lambda s: lax.while_loop(lambda c: halved(c) < 1.0, lambda c: c + 1.0, s), (0.0,), None),
    ],
)
def test_running_counts_what_python_counts(fn, args, trips):
    found = costax.count_trips(fn)(*args)
    if trips is None:
        # the condition is tried at 0 and at 1, which needs no halving
        trips = {"while": 1, "while_2": 0}
        assert sorted(map(int, found.values())) == sorted(trips.values())
    else:
        assert found == trips


def test_the_answers_of_running_give_the_counts_of_the_run():
    """A gradient-descent solver: what numpy's own loop takes is what costax says that jax runs."""

    def solver(a, b):
        def improve(state):
            x, _ = state
            r = b - a @ x
            return x + 0.1 * r, jnp.sum(r * r)

        return lax.while_loop(lambda s: s[1] > 1e-3, improve, (jnp.zeros_like(b), jnp.float32(1)))[0]

    a, b = np.diag([1.0, 2.0, 3.0]).astype("f4"), np.ones(3, "f4")
    x, error, runs = np.zeros(3, "f4"), 1.0, 0
    while error > 1e-3:
        r = b - a @ x
        x, error, runs = x + np.float32(0.1) * r, float(np.sum(r * r)), runs + 1
    trips = costax.count_trips(solver)(a, b)
    assert trips == {"while": runs}
    assert costax.analyze(solver, trips=trips)(a, b).total.macs == 9 * runs


def test_shapes_cannot_be_run():
    for args in ((costax.spec("f32[]"),), (costax.spec("f32[n]"),)):
        with pytest.raises(InputError, match="needs values to run"):
            costax.count_trips(lambda x: halved(x.sum()))(*args)


def test_an_answer_for_no_loop_names_the_nearest():
    with pytest.raises(TripsError, match=r"Did you mean 'outer/inner/while'\?"):
        costax.analyze(nested, trips={"outer/inner/whle": 3})(jnp.int32(26))
    with pytest.raises(TripsError, match="must be a non-negative number"):
        costax.analyze(nested, trips={"*": -1})(jnp.int32(26))
    with pytest.raises(SymbolError, match=r"Did you mean outer/while"):
        costax.analyze(nested)(jnp.int32(26)).evaluate({"outer/whil": 3, "outer/while": 3, "outer/inner/while": 1})


# Branches.


def routed(x, k):
    with jax.named_scope("router"):
        return lax.switch(k, [lambda v: v, lambda v: v * v + 1, lambda v: jnp.exp(v) @ v], x)


X = costax.spec("f32[4,4]")
K = costax.spec("i32[]")
OPS = (0, 2 * 16, 16 + 2 * 64)


@pytest.mark.parametrize(
    ("branches", "ops"),
    [
        ("max", OPS[2]),
        ("min", OPS[0]),
        ("mean", Fraction(sum(OPS), 3)),
        ({"router/cond": 1}, OPS[1]),
        ({"*/cond": 0}, OPS[0]),
        ({"router/cond": "mean"}, Fraction(sum(OPS), 3)),
        ({"router/cond": 1, "*": "min"}, OPS[1]),
    ],
)
def test_a_branch_is_charged_as_it_is_chosen(branches, ops):
    clamped = costax.analyze(routed, branches={"*": 0})(X, K).total.ops - OPS[0]
    found = costax.analyze(routed, branches=branches)(X, K).total.ops - clamped
    assert str(found) == str(ops)


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        ("most", "must be 'max', 'min', 'mean' or an index"),
        ({"router/cond": 3}, "is too large: there are 3"),
        ({"router/cond": -1}, "must be 'max', 'min', 'mean' or an index"),
        ({"router/con": 1}, "Did you mean 'router/cond'"),
        ({"router/cond": True}, "must be 'max', 'min', 'mean' or an index"),
    ],
)
def test_a_choice_that_is_none_is_refused(branches, message):
    with pytest.raises(BranchError, match=message):
        costax.analyze(routed, branches=branches)(X, K)


def test_which_branch_costs_most_may_depend_on_sizes_and_then_says_so():
    def fn(x, k):
        return lax.cond(k > 0, lambda v: v @ v.T, lambda v: jnp.exp(v) @ jnp.ones((8, 1)) + jnp.zeros(v.shape[0]), x)

    analysis = costax.analyze(fn)(costax.spec("f32[s,8]"), K)
    assert analysis.conditions
    s = 64
    assert analysis.evaluate(s=s).total == costax.analyze(fn)(costax.spec(f"f32[{s},8]"), K).total
    one = costax.analyze(fn, branches={"cond": 1})(costax.spec("f32[s,8]"), K)
    assert not one.conditions
    assert str(one.total.macs) == "8*s^2"


def test_a_branch_with_an_unknown_loop_is_charged_where_loops_are_long():
    def fn(x, k):
        return lax.switch(k, [halved, lambda v: jnp.exp(v) + v * v], x)

    analysis = costax.analyze(fn)(costax.spec("f32[]"), K)
    assert analysis.symbols == ("while",)
    assert analysis.evaluate({"while": 5}).total.flops == 5 + analysis.evaluate({"while": 1}).total.flops - 1
    with pytest.raises(SymbolError, match="costliest"):
        # never run, the loop costs one comparison, and the other branch three operations
        analysis.evaluate({"while": 0})
