"""What people meet first: results that are typed at a prompt, and the names that tab completion offers."""

from __future__ import annotations

import inspect
import itertools
import re

import jax
import jax.numpy as jnp
import pytest

import costax
import costax.errors
import traces
from traces import written

X = jax.ShapeDtypeStruct((64, 64), jnp.float32)
BYTES = 64 * 64 * 4


def layers(x, w):
    with jax.named_scope("first"):
        x = jnp.tanh(x @ w)
    with jax.named_scope("second"):
        return x @ w


@pytest.fixture(scope="module")
def analysis():
    return costax.analyze(layers, params_argnums=1)(X, X)


def sweep_of(width):
    return layers, (costax.spec(f"f32[8,{width}]"), costax.spec(f"f32[{width},{width}]"))


@pytest.fixture(scope="module")
def results(analysis, tmp_path_factory):
    prediction = analysis.predict("h100-sxm")
    module = costax.analyze(jax.jit(layers).lower(X, X).compile())()
    return {
        "Analysis": analysis,
        "Cost": analysis.total,
        "Prediction": prediction,
        "Energy": prediction.energy(),
        "Run": prediction.energy().run(10),
        "Fit": analysis.fits("h100-sxm"),
        "Diff": costax.diff(analysis, analysis),
        "WhatIf": analysis.what_if(activations="int8"),
        "Answer": analysis.explain_vs("fvcore"),
        "Utilisation": analysis.mfu(1.0, "h100-sxm"),
        "Comparison": costax.compare(layers)(X, X),
        "CompiledModule": module,
        "Table": analysis.table(),
        "rules": costax.rules(),
        "devices": costax.devices(),
        "Device": costax.device("h100-sxm"),
        "Sweep": costax.sweep(sweep_of, {"width": [16, 32, 64]}, workers=1, progress=False),
        "Measurement": costax.measure(jnp.tanh)(jnp.ones((8, 8))),
        "Join": costax.join(None, written(tmp_path_factory.mktemp("trace"), "host.xplane.pb", traces.gpu_xplane())),
        "by_scope": analysis.by_scope(),
        "by_source": analysis.by_source(),
        "kernels": analysis.kernels(),
        "memory_timeline": analysis.memory_timeline(),
        "live_at_peak": analysis.live_at_peak(),
    }


def lines_of(text: str, width: int = 120) -> int:
    return sum(-(-max(len(line), 1) // width) for line in text.splitlines())


def test_the_repr_of_every_result_has_at_most_five_lines_and_print_shows_a_table(results):
    for name, result in results.items():
        assert lines_of(repr(result)) <= 5, name
        assert "object at 0x" not in repr(result), name
        assert len(str(result).splitlines()) >= (1 if name == "Fit" else 2), name
        assert "<" in result._repr_html_(), name


def test_the_repr_of_smaller_values_fits_a_line_too(analysis):
    values = [analysis.memory, analysis.tree, costax.rules()["add"], costax.explain("add"), analysis.kernels()[0]]
    values += [costax.Budget(flops="1 GFLOP"), costax.compare(layers, X, X, passes=False).compiled]
    assert all(lines_of(repr(value)) <= 5 for value in values)
    assert repr(costax.Budget(flops="1 GFLOP")) == "Budget(flops='1 GFLOP')"


def test_the_repr_has_the_numbers_of_the_program(analysis):
    # two products of 64^3 multiply-accumulates
    assert "layers: 524 kMACs, 1.05 MFLOPs, 4.1 k parameters." in repr(analysis)
    assert f"flops={2 * 2 * 64**3}" in repr(analysis.total)


def test_the_repr_is_the_answer_in_a_sentence(analysis, results):
    """Not the head of the table: what people ask for stands in it, with its numbers."""
    products, spent = 2 * 64**3, 2 * (2 * 64**3) + 64**2
    expected = {
        "Utilisation": rf"MFU {100 * spent / 495e12:.8f}%: .* in 1 s on one NVIDIA H100.*,\sof\s495\sTFLOP/s\s\(tf32\)",
        "Answer": rf"fvcore reports {products:,} \w+; costax {products:,} \w+",
        "Energy": r"J\] per call on NVIDIA H100",
        "Sweep": r"> 3 points over width, 3 programs\.",
        "Fit": r"> yes: layers needs",
        "Measurement": r"latency [\d.]+ [mun]?s",
        "Join": r"one run [\d.]+ us",
    }
    assert analysis.macs * 2 <= spent
    for name, pattern in expected.items():
        assert re.search(pattern, repr(results[name])), (name, repr(results[name]))
    law = results["Sweep"].fit("macs ~ width^2")
    assert repr(law) == "<costax.ScalingLaw> macs = 16*width^2: 3 points, residuals 0.00%"


def test_the_repr_of_a_long_formula_is_short():
    def many(*args):
        return [x @ y for x, y in itertools.pairwise(args)]

    program = costax.analyze(many)(*(f"f32[n{i},n{i + 1}]" for i in range(20)))
    assert lines_of(repr(program)) <= 5
    assert "a formula of 19 terms" in repr(program)


def test_an_inexact_analysis_says_so():
    program = costax.analyze(lambda x: jax.lax.while_loop(lambda v: v.sum() < 1, lambda v: v @ v, x))(X)
    assert "Not exact" in repr(program)


def test_answers_of_an_analysis(analysis):
    assert (analysis.macs, analysis.flops) == (2 * 64**3, 4 * 64**3)
    assert analysis.predict("h100-sxm").seconds == costax.predict(analysis, "h100-sxm").seconds
    assert analysis.fits(device="h100-sxm").needed == costax.fits(analysis, device="h100-sxm").needed
    table = costax.analyze(lambda x: jnp.sin(jnp.cos(jnp.tanh(x @ x))))(X).table(by="primitive", top=1)
    assert "dot_general" in str(table)
    assert "(3 others)" in str(table)
    assert "tanh" not in str(table)
    assert "second" in str(analysis.table(depth=1))
    with pytest.raises(costax.CostaxError, match="by must be one of"):
        analysis.table(by="nothing")


def test_internals_are_not_in_the_tab_completion(analysis):
    offered = {name for name in dir(analysis) if not name.startswith("_")}
    assert offered.isdisjoint({"saved_rows", "live", "source_of", "dead_part", "whole_tree", "internals", "extents"})
    assert {"flops", "by_scope", "predict", "fits", "table", "mfu", "save", "params", "evaluate"} <= offered
    assert all(hasattr(analysis, name) for name in offered)
    assert analysis.saved_rows is None


def test_texts_serve_as_specs():
    by_text = costax.analyze(layers)("f32[64,64]", w="f32[64,64]")
    assert by_text.total == costax.analyze(layers)(X, X).total
    nested = costax.analyze(lambda tree: tree["w"] @ tree["x"])({"w": "bf16[a,8]", "x": "bf16[8,2]"})
    assert str(nested.macs) == "16*a"
    assert costax.compare(layers)("f32[64,64]", "f32[64,64]").jaxpr.total == by_text.total


def test_a_text_that_is_no_spec_or_is_static_stays_a_text():
    def padded(x, mode, tag="f32[8]"):
        assert isinstance(mode, str)
        assert isinstance(tag, str)
        return x + len(tag)

    counted = costax.analyze(padded, static_argnums=1, static_argnames="tag")("f32[8]", "f32[9]", tag="f32[7]")
    assert counted.flops == 8
    with pytest.raises(costax.CostaxError, match=r"'q32\[8\]' is not a valid spec"):
        costax.analyze(jnp.sin)("q32[8]")


def test_arguments_behind_the_function_are_answered_at_once():
    assert costax.analyze(layers, X, X).total == costax.analyze(layers)(X, X).total
    assert costax.analyze(layers, "f32[64,64]", X).flops == 4 * 64**3
    with pytest.raises(costax.CostaxError, match=r"costax\.measure\(fn\)\(x\)"):
        costax.measure(layers, X)


def test_a_call_without_arguments_teaches_the_second_one():
    waiting = costax.analyze(layers)
    assert repr(waiting) == "<costax.analyze(layers) waits for the arguments of layers: " + (
        'costax.analyze(layers)(x) or costax.analyze(layers)("f32[8,128]")>'
    )
    with pytest.raises(AttributeError, match="waits for the arguments of layers"):
        waiting.total  # noqa: B018
    with pytest.raises(AttributeError, match=r"costax\.compare\(layers\)"):
        costax.compare(layers).jaxpr  # noqa: B018


@pytest.mark.once
def test_the_package_has_a_version_and_its_errors_one_base_class():
    assert re.fullmatch(r"\d+\.\d+.*", costax.__version__)
    errors = [value for name, value in vars(costax.errors).items() if name.endswith("Error")]
    assert len(errors) > 15
    assert all(issubclass(error, costax.CostaxError) for error in errors)


@pytest.mark.once
def test_device_is_the_keyword_everywhere():
    for name in costax.__all__:
        value = getattr(costax, name)
        if inspect.isfunction(value):
            assert "device_name" not in inspect.signature(value).parameters, name
    for function in (costax.predict, costax.fits, costax.measure, costax.meter, costax.join, costax.Analysis.mfu):
        assert "device" in inspect.signature(function).parameters


def documented() -> list[tuple[str, object]]:
    functions = [(name, getattr(costax, name)) for name in costax.__all__]
    methods = [(f"Analysis.{name}", value) for name, value in vars(costax.Analysis).items() if not name.startswith("_")]
    return [(name, value) for name, value in [*functions, *methods] if inspect.isfunction(value)]


@pytest.mark.once
@pytest.mark.parametrize(("name", "function"), documented(), ids=lambda x: x if isinstance(x, str) else "")
def test_the_docstring_lists_every_argument(name, function):
    names = [each for each in inspect.signature(function).parameters if each not in ("self", "primitive_fields")]
    if not names:
        return
    arguments = (function.__doc__ or "").partition("Args:")[2]
    described = {
        one for line in re.findall(r"^ {8,12}(\w+(?:, \w+)*): ", arguments, re.MULTILINE) for one in line.split(", ")
    }
    assert [each for each in names if each not in described] == []


def test_texts_serve_as_specs_in_a_target_too():
    target = costax.Target(layers, ("f32[64,64]",), {"w": "f32[64,64]"})
    assert costax.analyze(target)().total == costax.analyze(layers)(X, X).total
    assert costax.compare(target)().jaxpr.total == costax.analyze(layers)(X, X).total
    symbolic = costax.analyze(costax.Target(lambda x: x @ x.T, ("f32[a,8]",)))()
    assert str(symbolic.macs) == "8*a^2"
    assert symbolic.evaluate(a=4).macs == 8 * 4 * 4
    with pytest.raises(costax.CostaxError, match=r"'q32\[8\]' is not a valid spec"):
        costax.Target(jnp.sin, ("q32[8]",))
