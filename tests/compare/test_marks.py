"""Lowering for a comparison: XLA's numbers are jax's own, and marks that change a program are left out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import mlir

import costax
from corpus import made, parameters, programs
from costax import _jax
from costax.compare import comparison, marks
from costax.compare.causes import CONTROL
from costax.compare.compile import PROPERTIES, lower

X = jax.ShapeDtypeStruct((8, 8), jnp.float32)
PROGRAMS = list(programs(devices=1))


@pytest.mark.parametrize("program", parameters(PROGRAMS[3::6], compiled=True))
def test_xla_says_the_same_of_the_hlo_as_jax_says_of_the_lowered_program(program):
    fn, args = made(program)
    analysis = costax.analyze(fn)(*args)
    stage = lower(analysis.program.traced, analysis.live, "program")
    theirs = stage.jax_stage.cost_analysis()
    assert stage.xla == {**dict.fromkeys(PROPERTIES, 0.0), **theirs}


def square(x):
    return jnp.tanh(x @ x)


def marked_as(other, monkeypatch):
    """Let marking return another program, with the marks of the true one."""
    jaxpr = costax.analyze(other)(X).live
    mark = marks.mark
    monkeypatch.setattr(marks, "mark", lambda live: marks.Marked(jaxpr, mark(live).marks))


def test_marks_that_change_the_cost_of_a_program_are_left_out(monkeypatch):
    marked_as(lambda x: jnp.tanh(x @ x) + 1, monkeypatch)
    found = costax.compare(square)(X)
    assert not found.marked
    assert found.lowered.xla["flops"] == jax.jit(square).lower(X).cost_analysis()["flops"] == 2 * 8 * 8 * 8


def test_marks_that_change_only_how_functions_are_shared_stay(monkeypatch):
    # The function of its own is another text of the same cost.
    marked_as(lambda x: jax.jit(jnp.tanh)(x @ x), monkeypatch)
    assert costax.compare(square)(X).marked


def test_the_text_of_a_program_holds_no_marks():
    analysis = costax.analyze(square)(X)
    plain, marked = analysis.live, marks.mark(analysis.live).jaxpr
    texts = [_jax.stablehlo_text(_jax.lower(analysis.program.traced, jaxpr)) for jaxpr in (plain, marked)]
    assert texts[0] == texts[1]
    assert "~1~" in _jax.hlo_text(_jax.hlo_of(_jax.lower(analysis.program.traced, marked)))


def test_each_distinct_inner_jaxpr_is_marked_once(monkeypatch):
    inner = [jax.jit(lambda x, k=k: jnp.sin(x) * k) for k in range(3)]
    outer = jax.jit(lambda x: sum(f(f(x)) for f in inner))
    live = costax.analyze(lambda x: outer(outer(outer(x))))(X).live
    rewritten = []
    replace = _jax.with_equations
    monkeypatch.setattr(_jax, "with_equations", lambda jaxpr, eqns: rewritten.append(1) or replace(jaxpr, eqns))
    marked = marks.mark(live).jaxpr
    assert len(rewritten) == 1 + 1 + 3  # the program, the outer function, the inner ones
    assert len({id(_jax.params(eqn)["jaxpr"]) for eqn in _jax.opened(marked).eqns}) == 1


@pytest.mark.parametrize("name", ["a;b", "stage~1~x", "~0~", ";;"])
def test_names_that_look_like_marks_are_names(name):
    def layer(x, w):
        with jax.named_scope(name):
            return jnp.tanh(x @ w)

    layer.__name__ = layer.__qualname__ = name

    def loss(x, w):
        return jnp.sin(jax.jit(layer)(x, w) @ w).sum()

    found = costax.compare(jax.grad(loss))(X, X)
    plain = costax.compare(jax.grad(lambda x, w: jnp.sin(jnp.tanh(x @ w) @ w).sum()))(X, X)
    assert found.marked
    assert found.compiled.attributed == 1
    assert name in "/".join(found.jaxpr.by_scope())
    assert sums_by_primitive(found) == sums_by_primitive(plain)


def sums_by_primitive(found):
    """What XLA counts of the compiled program by primitive: the names of scopes change nothing of it."""
    sums = {}
    for cost in found.compiled.instruction_costs:
        primitive = cost.call_site.primitive if cost.call_site else None
        flops, transcendentals = sums.get(primitive, (0, 0))
        sums[primitive] = flops + cost.flops, transcendentals + cost.transcendentals
    return sums


@pytest.mark.parametrize("setting", ["jax_include_full_tracebacks_in_locations", "jax_traceback_in_locations_limit"])
def test_equations_keep_their_names_if_jax_leaves_tracebacks_out(setting):
    before = getattr(jax.config, setting)
    expected = sums_by_primitive(costax.compare(square)(X))
    jax.config.update(setting, type(before)(0))
    jax.clear_caches()
    try:
        found = costax.compare(square)(X)
    finally:
        jax.config.update(setting, before)
    assert sums_by_primitive(found) == expected
    assert found.compiled.attributed == 1
    assert not found.unexplained


def layer(x, w=None):
    return jnp.tanh(x @ (x if w is None else w))


def lost_in_a_loop(x):
    return lax.while_loop(lambda x: x[0, 0] < 3, layer, x)


# Programs with products of 2 * 8**3 FLOPs: how many lose their marks, and how often they run in the module.
PRODUCTS = {
    "alone": (layer, 1),
    "scan": (lambda x: lax.scan(lambda x, w: (layer(x, w), None), x, jnp.ones((5, 8, 8)))[0], 1),
    "while": (lost_in_a_loop, 1),
    "fori_loop": (lambda x: lax.fori_loop(0, 5, lambda i, x: layer(x), x), 1),
    "cond": (lambda x: lax.cond(x[0, 0] < 3, layer, lambda x: x, x), 1),
    "scan of cond": (lambda x: lax.fori_loop(0, 5, lambda i, x: lax.cond(i < 3, layer, jnp.negative, x), x), 1),
    "gradient": (jax.grad(lambda x: lax.fori_loop(0, 5, lambda i, x: layer(x), x).sum()), 3),
    "checkpoint": (jax.grad(lambda x: jax.checkpoint(lambda x: jnp.sin(layer(x)))(x).sum()), 3),
}


@pytest.fixture
def products_without_marks(monkeypatch):
    with_scopes = _jax.with_scopes

    def without_that_of_products(eqn, params, prefix, mark):
        return eqn if eqn.primitive.name == "dot_general" else with_scopes(eqn, params, prefix, mark)

    monkeypatch.setattr(_jax, "with_scopes", without_that_of_products)


@pytest.mark.parametrize(
    ("name", "passes"), [*((name, True) for name in PRODUCTS), ("alone", False), ("scan", False), ("gradient", False)]
)
def test_an_equation_that_lost_its_mark_is_not_explained(products_without_marks, name, passes):
    fn, count = PRODUCTS[name]
    found = costax.compare(fn, passes=passes)(X).unexplained
    # The work goes to the equation that uses it, or to the loop around it, which the account does not believe.
    assert sum(delta.flops for delta in found if delta.equation == "dot_general") == -count * 2 * 8**3
    # A scan has counters of its own.
    assert sum(delta.flops for delta in found) in range(8)
    for delta in found:
        assert "bears the name of no equation" in delta.evidence
        assert "dropped the location" in delta.evidence


@pytest.mark.parametrize("name", PRODUCTS)
def test_an_equation_that_keeps_its_mark_is_explained(name):
    found = costax.compare(PRODUCTS[name][0])(X)
    assert not found.unexplained
    assert sum(delta.flops for delta in found.deltas if delta.cause == CONTROL) in range(8)


@pytest.mark.parametrize("program", parameters(PROGRAMS[2::9], compiled=True))
def test_what_differs_in_names_alone_is_lowered_to_the_same_program(program):
    fn, args = made(program)
    analysis = costax.analyze(fn)(*args)
    plain, marked = analysis.live, marks.mark(analysis.live).jaxpr
    if not _jax.differ_in_names_alone(plain, marked):
        pytest.skip("Some rule of it is not jax's own.")
    stages = [lower(analysis.program.traced, jaxpr, "program") for jaxpr in (plain, marked)]
    texts = [_jax.stablehlo_text(stage.jax_stage) for stage in stages]
    assert texts[0] == texts[1] or stages[0].xla == stages[1].xla


def test_programs_of_jax_are_lowered_once(monkeypatch):
    def lowered(*_):
        raise AssertionError("The plain program was lowered too.")

    monkeypatch.setattr(comparison, "lowering", lowered)
    assert costax.compare(jax.grad(lambda x: jax.jit(square)(x).sum()))(X).marked


OTHERS = [
    lambda x: jnp.tanh(x @ x) + 1,
    lambda x: jnp.sin(x @ x),
    lambda x: jax.jit(jnp.tanh)(x @ x),
    lambda x: jnp.tanh(x @ x.T),
]


@pytest.mark.parametrize("other", OTHERS)
def test_another_program_differs_in_more_than_names(other):
    live = costax.analyze(square)(X).live
    assert not _jax.differ_in_names_alone(live, marks.mark(costax.analyze(other)(X).live).jaxpr)
    assert _jax.differ_in_names_alone(live, marks.mark(live).jaxpr)


def test_a_rule_of_another_library_that_reads_names_is_noticed():
    primitive = Primitive("reads_names")
    primitive.def_abstract_eval(lambda x: x)

    def rule(context, x):
        is_marked = "~" in str(context.name_stack)
        return mlir.lower_fun(lambda y: jnp.sin(y) * y if is_marked else y * y, multiple_results=False)(context, x)

    mlir.register_lowering(primitive, rule, cacheable=False)
    counted = {"reads_names": lambda equation: costax.Cost.arithmetic(equation.out.dtype, equation.out.size)}
    found = costax.compare(lambda x: primitive.bind(x @ x), rules=counted)(X)
    assert not found.marked
    assert found.xla.get("transcendentals", 0) == 0
