"""What consumes counts says which symbols have no value, or works with formulas; it never fails on its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.analysis import thresholds
from costax.errors import InputError, SymbolError

OPEN = r"depend on symbols \((while, a trip count|n)\)(.|\n)*analysis.evaluate\((while|n)=8\)"
X = jax.ShapeDtypeStruct((8, 8), jnp.float32)


def repeated(x):
    return lax.while_loop(lambda v: v.sum() < 1, lambda v: v @ v, x)


def test_a_prediction_names_the_symbols_and_the_cure():
    for analysis in (costax.analyze(repeated)(X), costax.analyze(jnp.matmul)(costax.spec("f32[n,8]"), X)):
        for program in (analysis, analysis.what_if(weights="int8")):
            with pytest.raises(
                SymbolError,
                match=r"depend on symbols \((while, a trip count|n)\)(.|\n)*analysis.evaluate\((while|n)=8\)",
            ):
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


def test_formulas_with_values_answer_every_question():
    program, sizes = costax.analyze(lambda x, w: jnp.tanh(x @ w))("f32[b,64]", "f32[64,64]"), {"b": 8}
    known = costax.analyze(lambda x, w: jnp.tanh(x @ w))("f32[8,64]", "f32[64,64]")
    evaluated = program.evaluate(sizes)
    assert evaluated.predict("h100").seconds == known.predict("h100").seconds
    assert evaluated.fits("h100").needed == known.fits("h100").needed
    assert evaluated.peak_bytes == known.peak_bytes
    assert evaluated.activations("all") == known.activations("all")
    assert evaluated.as_("xla") == known.as_("xla")
    looping, counted = costax.analyze(repeated)(X), costax.analyze(repeated, trips={"while": 7})(X)
    assert looping.evaluate({"while": 7}).predict("h100").flops == counted.total.flops
    assert looping.predict.__self__ is looping


def test_questions_about_memory_name_the_sizes_without_a_value():
    program = costax.analyze(jnp.matmul)("f32[n,8]", X)
    for question in (lambda: program.peak_bytes, lambda: program.fits("h100"), lambda: program.kernels()):
        with pytest.raises(SymbolError, match=r"depend on symbols \(n\)(.|\n)*analysis.evaluate\(n=8\)"):
            question()
    # the memory of a loop does not depend on its trip count
    assert costax.analyze(repeated)(X).fits("h100")


def test_flame_graphs_name_the_symbols(tmp_path):
    for name in ("a.speedscope.json", "a.pb.gz"):
        with pytest.raises(SymbolError, match="A flame graph draws each count as a width"):
            costax.analyze(repeated)(X).save(tmp_path / name)


def test_a_measurement_of_a_loop_of_unknown_length_has_times_and_no_rates():
    measured = costax.measure(repeated, iterations=2)(jnp.ones((8, 8)))
    assert measured.latency > 0
    assert (measured.flops_per_second, measured.mfu) == (None, None)
    assert "the counts depend on trip counts (while)" in str(measured)
    with pytest.raises(SymbolError, match="runs with arrays"):
        costax.measure(jnp.sin)("f32[n]")


def test_a_summary_for_a_pull_request_shows_formulas():
    from costax.report.pull_request import as_markdown, as_text

    # b*k*k products before, twice as many after: a share that is the same for every b
    before = costax.analyze(lambda x, w: x @ w)("f32[b,8]", X)
    after = costax.analyze(lambda x, w: x @ w @ w)("f32[b,8]", X)
    summary = as_markdown(costax.diff(before, after))
    assert "+100.0 %" in summary
    assert "128\\*b" in summary
    assert "changed by" in as_text(costax.diff(before, after))
