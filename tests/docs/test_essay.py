"""The essay's interpreter runs, is as short as it says, and agrees with costax where it knows enough."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax

DOCS = Path(__file__).resolve().parents[2] / "docs"
SOURCE = DOCS / "essay" / "cost_interpreter.py"


def essay():
    spec = importlib.util.spec_from_file_location("cost_interpreter", SOURCE)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


ESSAY = essay()


def mlp(w, x):
    for i in range(2):
        with jax.named_scope(f"layer_{i}"):
            x = jax.nn.relu(x @ w)
    return jnp.sum(x * x)


def looped(w, x):
    return lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=7)[0]


PROGRAMS = [
    (ESSAY.attention, ("f32[128,64]", "f32[64,192]")),
    (mlp, ("f32[8,8]", "f32[4,8]")),
    (jax.value_and_grad(mlp), ("f32[8,8]", "f32[4,8]")),
    (looped, ("f32[8,8]", "f32[4,8]")),
]


@pytest.mark.parametrize(("function", "specs"), PROGRAMS)
def test_the_essay_counts_what_costax_counts(function, specs):
    shapes = [costax.spec(text) for text in specs]
    total, by_scope = ESSAY.analyze(function, *shapes)
    found = costax.analyze(function)(*shapes)
    assert 2 * total["macs"] + total["arithmetic"] == found.total.flops
    assert total["transcendentals"] == found.total.transcendentals
    assert sum(cost["macs"] for cost in by_scope.values()) == found.total.macs


def test_what_is_in_no_table_is_an_error():
    with pytest.raises(KeyError, match="no rule says what sort costs"):
        ESSAY.analyze(jnp.sort, costax.spec("f32[8]"))


def test_the_essay_is_as_short_as_it_says():
    lines = len(SOURCE.read_text().splitlines())
    assert f"in {lines}\nlines that run" in (DOCS / "essay" / "index.md").read_text()
    assert lines <= 150


def test_the_essay_names_as_many_rules_as_there_are():
    assert f"with {len(costax.rules())} rules" in (DOCS / "essay" / "index.md").read_text()
