"""What consumes counts says which symbols have no value, or works with formulas; it never fails on its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.analysis import thresholds
from costax.errors import InputError, SymbolError

X = jax.ShapeDtypeStruct((8, 8), jnp.float32)


def repeated(x):
    return lax.while_loop(lambda v: v.sum() < 1, lambda v: v @ v, x)


def test_a_prediction_names_the_symbols_and_the_cure():
    for analysis in (costax.analyze(repeated)(X), costax.analyze(jnp.matmul)(costax.spec("f32[n,8]"), X)):
        for program in (analysis, analysis.what_if(weights="int8")):
            with pytest.raises(SymbolError, match=r"depend on symbols \((while|n)\)(.|\n)*--trips while=10"):
                costax.predict(program, "h100-sxm")
    known = costax.analyze(repeated, trips={"while": 3})(X)
    assert costax.predict(known, "h100-sxm").flops == known.total.flops


def test_differences_of_formulas_have_a_ratio_only_where_they_are_equal():
    open_, known = costax.analyze(repeated)(X), costax.analyze(repeated, trips={"while": 3})(X)
    assert costax.diff(open_, open_).total.change("macs").ratio == 1
    change = costax.diff(open_, known).total.change("macs")
    assert (str(change.before), change.after, change.ratio) == ("512*while", 3 * 512, None)
    assert "512*while" in str(costax.diff(open_, known))
    with pytest.raises(SymbolError, match="`macs` depends on symbols"):
        thresholds.failures(costax.diff(open_, known), [thresholds.parse("macs > +1%")])


def test_a_what_if_shows_formulas():
    shown = str(costax.analyze(repeated)(X).what_if(weights="int8"))
    assert "512*while" in shown


def test_a_stage_of_jax_is_no_analysis():
    lowered = jax.jit(jnp.matmul).lower(X, X)
    for stage in (lowered, lowered.compile(), jnp.matmul, "module.hlo.pb"):
        for function in (costax.predict, costax.fits):
            with pytest.raises(InputError, match=r"Analyse it first: costax\.\w+\(costax\.analyze\(x\)"):
                function(stage, "h100-sxm")
