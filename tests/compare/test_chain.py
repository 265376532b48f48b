"""The chain is true to its modules: what is altered between two of them is not explained."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax import _jax
from costax.compare import chain, comparison
from costax.compare.causes import CONVERTED, UNEXPLAINED, Delta

X = costax.spec("f32[8]")


@pytest.fixture
def links(monkeypatch):
    """Returns the comparison of a program, and the programs that its chain is made of."""

    def made(fn, *args):
        kept = []
        monkeypatch.setattr(comparison, "deltas", lambda given: kept.append(given) or chain.deltas(given))
        return costax.compare(fn)(*args), kept[0]

    return made


def test_work_that_the_conversion_adds_is_unexplained(links):
    found, true = links(lambda x: jnp.sin(x) + x, X)
    assert not found.unexplained
    lowered = true.lowered
    doubled = replace(lowered, instruction_costs=[*lowered.instruction_costs, *lowered.instruction_costs])
    more = [delta for delta in chain.deltas(replace(true, lowered=doubled)) if delta.stage == "converted"]
    assert {(delta.equation, delta.cause, delta.transcendentals) for delta in more if delta.transcendentals} == {
        ("sin", UNEXPLAINED, 8)
    }
    # What it leaves out has a cause.
    less = replace(lowered, instruction_costs=[])
    gone = [delta for delta in chain.deltas(replace(true, lowered=less)) if delta.stage == "converted"]
    assert {delta.cause for delta in gone} == {CONVERTED}


def test_an_equation_without_a_line_has_that_of_the_call_around(links):
    _, true = links(lambda x: jax.lax.fori_loop(0, 3, lambda i, x: jnp.sin(x), x), X)
    source = {1: "model.py:7"}
    known = replace(true, source=lambda site: source.get(len(site.address), ""))
    inside = [delta for delta in chain.deltas(known) if len(delta.address) > 1]
    assert inside
    assert {delta.source for delta in inside} == {"model.py:7"}


@pytest.mark.parametrize("passes", [True, False])
@pytest.mark.parametrize("jitted", [True, False])
def test_a_loop_that_depends_on_data_runs_its_condition_once_more_than_its_body(passes, jitted):
    def search(w, x):
        return lax.while_loop(lambda x: jnp.sum(x) < 3, lambda x: jnp.tanh(x @ w), x)

    fn = (lambda w, x: jax.jit(search)(w, x) + 1) if jitted else search
    specs = costax.spec("f32[8,8]"), costax.spec("f32[4,8]")
    compiled = costax.compare(fn, trips={"*while": 7}, passes=passes)(*specs).compiled
    # The condition adds 4 * 8 elements, which are 31 additions, and compares their sum.
    assert compiled.executed.flops == 7 * 2 * 4 * 8 * 8 + 8 * (31 + 1) + jitted * 4 * 8
    assert compiled.executed.transcendentals == 7 * 4 * 8
    assert [loop.trips for loop in compiled.loops] == [7]
    assert compiled.exact
    unknown = costax.compare(fn, passes=passes)(*specs).compiled
    assert [loop.trips for loop in unknown.loops] == [None]
    assert not unknown.exact


def test_a_dictionary_of_xla_that_is_another_one_does_not_match():
    found = costax.compare(lambda x: jnp.sin(x) + x, passes=False)(X)
    assert found.matches_xla
    assert found.compiled.matches_xla is True
    for key in ("flops", "transcendentals", "bytes accessed"):
        other = replace(found.compiled, xla={**found.compiled.xla, key: found.compiled.xla[key] + 1})
        assert other.matches_xla is False
        assert not replace(found, compiled=other).matches_xla
    assert replace(found.compiled, xla=None).matches_xla is None


def test_a_donated_argument_takes_memory_once():
    n = 4 * 1000
    plain, donated = (
        costax.compare(jax.jit(lambda x: x + 1, donate_argnums=argnums), passes=False)(costax.spec("f32[1000]"))
        for argnums in ((), 0)
    )
    assert {name: plain.memory_use().parts[name] for name in ("arguments", "results")} == {"arguments": n, "results": n}
    use = donated.memory_use()
    assert {name: use.parts[name] for name in ("arguments", "results")} == {"arguments": n, "results": 0}
    assert use.needed == donated.compiled.held == sum(use.parts.values()) == plain.compiled.held - n
    assert use.allocated == use.parts["temporaries"]


def test_what_xla_leaves_out_of_its_dictionary_is_0():
    def turned(x):
        return x.T

    theirs = jax.jit(turned).lower(jnp.zeros((4, 8))).compile().cost_analysis()
    assert "transcendentals" not in theirs
    found = costax.compare(turned, passes=False)(costax.spec("f32[4,8]"))
    assert found.xla == {"flops": 0.0, "transcendentals": 0.0, **theirs}


def test_a_compiler_without_a_dictionary_is_not_compared_with(monkeypatch):
    monkeypatch.setattr(_jax, "xla_cost", lambda hlo: None)
    found = costax.compare(lambda x: jnp.sin(x) + x, passes=False)(X)
    assert found.lowered.xla is None
    assert found.lowered.matches_xla is None
    assert found.compiled.matches_xla is True


def test_passes_stand_in_the_order_of_their_first_runs():
    found = costax.compare(lambda x: jnp.sin(x) + x, passes=False)(X)
    runs = [("cse", 5), ("algsimp", 2), ("dce", 9), ("algsimp", 7), ("fusion", 12)]
    shown = replace(
        found, deltas=[Delta("", "compiled", run, 0, "sin", (), "", 1, "", name, run) for name, run in runs]
    )
    assert {name: pair.flops for name, pair in shown.by_pass().items()} == {
        "algsimp": 2 + 7,
        "cse": 5,
        "dce": 9,
        "fusion": 12,
    }
    assert list(shown.by_pass()) == ["algsimp", "cse", "dce", "fusion"]
    assert list(shown.by_pass_and_scope()) == [(name, ()) for name in shown.by_pass()]
