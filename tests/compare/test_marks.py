"""Lowering for a comparison: XLA's numbers are jax's own, and marks that change a program are left out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Primitive
from jax.interpreters import mlir

import costax
from corpus import made, parameters, programs
from costax import _jax
from costax.compare import comparison, marks
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


@pytest.mark.parametrize("passes", [True, False])
def test_an_equation_that_lost_its_mark_is_not_explained(monkeypatch, passes):
    with_scopes = _jax.with_scopes

    def without_that_of_products(eqn, params, prefix, mark):
        return eqn if eqn.primitive.name == "dot_general" else with_scopes(eqn, params, prefix, mark)

    monkeypatch.setattr(_jax, "with_scopes", without_that_of_products)
    found = costax.compare(lambda x: jnp.tanh(x @ x), passes=passes)(X)
    # The work goes to the equation that uses it, which the account does not believe.
    assert {(delta.equation, delta.flops) for delta in found.unexplained} == {("dot_general", -1024), ("tanh", 1024)}


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
