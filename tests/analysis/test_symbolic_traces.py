"""What a trace with symbols decides by the sizes: it is known in every analysis, and numbers at a point agree."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import pytest
from jax import export

import costax
from costax import _jax
from costax.errors import SymbolError, SymbolicError

ROWS = """
ij,jk,kl->il | b,s s,40 40,b
bi,io,bo-> | b,s s,30 b,30
i,ij,j-> | s s,b b
bqd,bkd,bke->bqe | b,s,16 b,40,16 b,40,16
ij,ij,jk->k | s,b s,b b,9
...a,ab,bc->...c | b,s,12 12,s s,50
aij,jk,kl->ail | b,1,s s,40 40,b+s
ab,bc,cd,de->ae | s,b b,20 20,s s,7
"""
EINSUMS = [tuple(part.strip() for part in row.split("|")) for row in ROWS.strip().splitlines()]
SIZES = [2, 3, 7, 16, 30, 40, 41, 64, 200]


def arguments(shapes, **sizes):
    return [f"f32[{','.join(str(eval(d, {}, sizes)) if sizes else d for d in x.split(','))}]" for x in shapes.split()]


@pytest.mark.parametrize(("subscripts", "shapes"), EINSUMS)
def test_an_einsum_with_symbols_is_that_of_numbers_or_refused(subscripts, shapes):
    einsum = lambda *operands: jnp.einsum(subscripts, *operands)  # noqa: E731
    analysis = costax.analyze(einsum)(*arguments(shapes))
    assert analysis.exact_by == "tracing"
    agree = 0
    for b, s in itertools.product(SIZES, SIZES):
        try:
            at_sizes = analysis.evaluate(b=b, s=s)
        except SymbolError:
            continue
        numbers = costax.analyze(einsum)(*arguments(shapes, b=b, s=s))
        assert (at_sizes.macs, at_sizes.flops, at_sizes.total.bytes_unfused) == (
            numbers.macs,
            numbers.flops,
            numbers.total.bytes_unfused,
        )
        agree += 1
    assert agree >= 20


def test_the_order_of_an_einsum_is_a_condition():
    analysis = costax.analyze(lambda a, b, c: jnp.einsum("ij,jk,kl->il", a, b, c))("f32[b,s]", "f32[s,40]", "f32[40,b]")
    # (ab)c takes 40*b*s + 40*b^2 MACs, a(bc) 40*s*b + b*s*b; the first is less from s = 40 on.
    assert str(analysis.formula("macs")) == "40*b*s + 40*b^2"
    assert analysis.evaluate(b=8, s=40).macs == 40 * 8 * 40 + 40 * 8**2
    with pytest.raises(SymbolError, match="s - 40 >= 0, for which einsum contracts in this order"):
        analysis.evaluate(b=8, s=39)
    assert "einsum contracts in this order" in str(analysis)


def test_an_order_that_the_user_gives_has_no_conditions():
    for optimize in (False, [(1, 2), (0, 1)]):
        einsum = lambda a, b, c, optimize=optimize: jnp.einsum("ij,jk,kl->il", a, b, c, optimize=optimize)  # noqa: E731
        analysis = costax.analyze(einsum)("f32[b,s]", "f32[s,40]", "f32[40,b]")
        assert analysis.conditions == ()
        for s in (3, 100):
            numbers = costax.analyze(einsum)(f"f32[8,{s}]", f"f32[{s},40]", "f32[40,8]")
            assert analysis.evaluate(b=8, s=s).macs == numbers.macs


def test_bounds_of_the_sizes_choose_the_order():
    einsum = lambda a, b, c: jnp.einsum("ij,jk,kl->il", a, b, c)  # noqa: E731
    analysis = costax.analyze(einsum)("f32[b,s]; s <= 30, b >= 2", "f32[s,40]", "f32[40,b]")
    assert str(analysis.formula("macs")) == "b^2*s + 40*b*s"
    assert analysis.evaluate(b=8, s=20).macs == 8 * 8 * 20 + 40 * 8 * 20


def test_the_order_of_five_operands_is_never_guessed():
    chain = lambda *operands: jnp.einsum("ab,bc,cd,de,ef->af", *operands)  # noqa: E731
    with pytest.raises(SymbolicError, match="an einsum contracts 5 operands depends on their sizes"):
        costax.analyze(chain)("f32[b,4]", "f32[4,8]", "f32[8,4]", "f32[4,8]", "f32[8,b]")


def special_at(difference):
    return lambda x: x.sum() if difference(x.shape[0]) else jnp.sin(x) @ x


@pytest.mark.parametrize(
    ("difference", "sizes"),
    [
        (lambda n: n == 128, [128]),
        (lambda n: n % 128 == 0, [128, 256, 1280]),
        (lambda n: n % 64 == 0, [64, 128, 640]),
        (lambda n: n in (100, 50257), [100, 50257]),
        (lambda n: 3 * n - 6 == 2 * n + 994, [1000]),
        (lambda n: n * n == 10000, [100]),
        (lambda n: n // 100 == 1, [100, 150, 199]),
    ],
)
def test_a_comparison_with_a_size_of_any_magnitude_is_a_condition(difference, sizes):
    analysis = costax.analyze(special_at(difference))("f32[n]")
    for n in sizes:
        assert difference(n)
        with pytest.raises(SymbolError, match="which the program tests"):
            analysis.evaluate(n=n)
        assert not difference(n + 200)
        assert analysis.evaluate(n=n + 200).macs == n + 200


def test_a_comparison_without_consequence_is_no_condition():
    for special in (128, 1000):
        program = lambda x, n=special: jnp.sin(x * (2.0 if x.shape[0] == n else 3.0))  # noqa: E731
        assert costax.analyze(program)("f32[n]").conditions == ()


def test_a_size_that_the_program_refuses_is_a_condition():
    def program(x):
        if x.shape[0] == 40:
            raise ValueError("40 is no size")
        return jnp.sin(x)

    with pytest.raises(SymbolError, match="n - 40 != 0"):
        costax.analyze(program)("f32[n]").evaluate(n=40)


@pytest.mark.parametrize(
    ("program", "spec", "size"),
    [
        (lambda x: x[:8] * 2, "f32[n]; n >= 8", 8),
        (lambda x: x[:200] * 2, "f32[n]; n >= 200", 200),
        (lambda x: x[:, : x.shape[0]] * 2, "f32[n,40]; n <= 40", 40),
        (lambda x: x.reshape(-1, 4) * 2, "f32[b,4*n]", 1),
        (lambda x: x.reshape(x.shape[1], x.shape[0]) * 2, "f32[b,n]", 3),
    ],
)
def test_a_slice_or_reshape_that_changes_nothing_is_left_out(program, spec, size):
    analysis = costax.analyze(program)(spec)
    given = {"b": 3, "n": size} if "b" in spec else {"n": size}
    shape = costax.spec(spec.split(";")[0].replace("4*n", str(4 * size)).replace("n", str(size)).replace("b,", "3,"))
    exact = costax.analyze(program)(shape).total.bytes_unfused
    formula = analysis.formula("bytes_unfused").value(given)
    if formula == exact:
        assert analysis.evaluate(**given).total.bytes_unfused == exact
    else:
        with pytest.raises(SymbolError, match="which the program tests"):
            analysis.evaluate(**given)


def test_an_interpolated_formula_is_traced_where_it_is_evaluated():
    analysis = costax.analyze(lambda x: x.sum() if x.shape[0] > 100 else jnp.sin(x) @ x)("f32[n]")
    assert analysis.exact_by == "interpolation"
    assert (analysis.evaluate(n=100).macs, analysis.evaluate(n=101).macs) == (100, 0)
    assert list(analysis.evaluate_many(("macs",), n=[50, 100])["macs"]) == [50, 100]
    with pytest.raises(SymbolError, match="At n=101 the formula does not hold: the macs of the program are 0, not 101"):
        analysis.evaluate_many(("macs",), n=[50, 101])


def test_a_function_that_jax_has_traced_before_keeps_its_conditions():
    @jax.jit
    def choose(x):
        return x.sum() if x.shape[0] == 8 else jnp.sin(x) @ x

    def program(x):
        return choose(x) * 2

    own = jax.ShapeDtypeStruct(export.symbolic_shape("s"), "float32")
    for spec in ("f32[s]", "f32[s]", own, own):
        analysis = costax.analyze(program)(spec)
        assert [condition.text for condition in analysis.conditions] == ["s - 8 != 0, which the program tests,"]
        with pytest.raises(SymbolError):
            analysis.evaluate(s=8)
        assert analysis.evaluate(s=9).macs == 9


def test_a_function_that_another_thread_traces_at_that_time_keeps_its_conditions():
    started, traced = threading.Event(), threading.Event()

    @jax.jit
    def choose(x):
        return x.sum() if x.shape[0] == 8 else jnp.sin(x) @ x

    def waiting(x):
        started.set()
        traced.wait(60)
        return choose(x) * 2

    with ThreadPoolExecutor(1) as pool:
        analysis = pool.submit(costax.analyze(waiting), "f32[s]")
        started.wait(60)
        costax.analyze(lambda x: choose(x) * 3)("f32[s]")
        traced.set()
        assert [condition.text for condition in analysis.result().conditions] == [
            "s - 8 != 0, which the program tests,"
        ]


def test_traces_share_a_scope_until_one_of_them_decides_something():
    """A new scope for each trace would fill jax's caches, and trace every function of jax again."""
    (n,) = costax.spec("f32[s]").shape
    first = _jax.tracing_scope(n.scope)
    costax.analyze(lambda x: jnp.sin(x) @ x)("f32[s]")
    assert _jax.tracing_scope(n.scope) is first
    costax.analyze(lambda x: x.sum() if x.shape[0] == 8 else x)("f32[s]")
    assert _jax.tracing_scope(n.scope) is not first


def test_a_trace_of_costax_reaches_no_trace_of_the_user():
    row = jax.jit(lambda x: x[:, 0])
    shape = jax.ShapeDtypeStruct((*export.symbolic_shape("b, s"),), "float32")
    text = str(jax.make_jaxpr(lambda x: row(x))(shape))
    jax.clear_caches()
    costax.analyze(lambda x: row(x))(shape)
    assert str(jax.make_jaxpr(lambda x: row(x))(shape)) == text


def test_a_function_may_close_over_the_sizes_of_its_arguments():
    spec = costax.spec("f32[s]")
    (n,) = spec.shape
    analysis = costax.analyze(lambda x: x @ jnp.ones(n))(spec)
    assert str(analysis.formula("macs")) == "s"
