"""One word says how far counts can be trusted: in the analysis, in tables, in records and on HTML pages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.analysis.exactness import WORDS
from costax.cli.delivery import check_exact
from costax.errors import CheckError
from costax.report.record import from_record, to_record

X = costax.spec("f32[8,8]")
HERE = Path(__file__).name


def looped(x):
    return lax.while_loop(lambda c: c.sum() < 3, lambda c: c @ c, x)


def branched(x):
    return lax.cond(x[0, 0] > 0, lambda y: y @ y, lambda y: y, x)


def switched(x):
    return lax.switch(x[0, 0].astype(int), [lambda y: y, jnp.tanh, lambda y: y @ y], x)


def called(x):
    return jax.pure_callback(lambda y: y, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def line_of(function):
    return f"{HERE}:{function.__code__.co_firstlineno + 1}"


# (program, options, word, text up to the place)
CASES = {
    "plain": (jnp.tanh, {}, "exact", ""),
    "sizes": (lambda x: x @ x.T, {}, "exact", ""),
    "branches of equal cost": (lambda x: lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x), {}, "exact", ""),
    "known branch": (lambda x: lax.cond(jnp.array([0, 1])[1] == 1, jnp.sin, lambda y: y, x), {}, "exact", ""),
    "chosen branch": (branched, {"branches": {"cond": 0}}, "exact", ""),
    "answered loop": (looped, {"trips": {"while": 3}}, "exact", ""),
    "loop": (looped, {}, "symbolic", "symbolic: exact in 1 symbol"),
    "two loops": (lambda x: looped(looped(x) + 1), {}, "symbolic", "symbolic: exact in 2 symbols"),
    "costliest": (branched, {}, "upper bound", f"upper bound: branch 1 of 2 at .*{line_of(branched)}"),
    "costliest of three": (switched, {}, "upper bound", f"upper bound: branch 2 of 3 at .*{line_of(switched)}"),
    "cheapest": (branched, {"branches": "min"}, "lower bound", "lower bound: branch 0 of 2 at"),
    "mean": (branched, {"branches": "mean"}, "estimate", "estimate: mean of 2 branches at"),
    "loop and branch": (lambda x: looped(branched(x)), {}, "upper bound", "upper bound in 1 symbol: branch 1 of 2 at"),
    "once": (looped, {"loops_once": True}, "estimate", "estimate: loop while counted 1 x"),
    "callback": (lambda x: called(branched(x)), {}, "incomplete", "incomplete: not counted pure_callback at"),
    "branch in a branch that never runs": (
        lambda x: lax.cond(jnp.array([0])[0] == 1, branched, lambda y: y, x),
        {},
        "exact",
        "",
    ),
    "branch in a loop": (
        lambda x: lax.scan(lambda c, _: (branched(c), None), x, None, 3)[0],
        {},
        "upper bound",
        "upper",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_word_and_its_reason_are_the_same_in_every_format(name, tmp_path):
    program, options, word, text = CASES[name]
    x = costax.spec("f32[n,8]") if name == "sizes" else X
    analysis = costax.analyze(program, **options)(x)
    assert analysis.exactness == word
    assert word in WORDS
    assert analysis.exact is (word == "exact")
    record = json.loads(json.dumps(to_record(analysis)))
    assert record["exactness"] == word
    assert record["exact"] is analysis.exact
    loaded = from_record(record)
    assert loaded.exactness == word
    assert loaded.choices == analysis.choices
    analysis.save(tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    for shown in (str(analysis), str(loaded)):
        line = next(line for line in shown.splitlines() if line.startswith("exact "))
        if word == "exact":
            assert line.split() == ["exact", "yes"]
        else:
            assert line.split()[:2] == ["exact", "no"]
            assert re.search(text, line)
            assert line.split("no", 1)[1].strip().split(" at ")[0] in html


@pytest.mark.parametrize("name", CASES)
def test_strict_passes_for_exact_counts_only(name):
    program, options, word, _ = CASES[name]
    analysis = costax.analyze(program, **options)(X)
    if word == "exact":
        check_exact(analysis)
    else:
        with pytest.raises(CheckError):
            check_exact(analysis)


def test_a_bound_disappears_when_symbols_get_values():
    analysis = costax.analyze(looped)(X)
    assert analysis.evaluate({"while": 4}).exactness == "exact"
