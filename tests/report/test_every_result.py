"""Every result of the public API, found by a walk through it: a short `repr`, a table for `print`, HTML for notebooks.

The walk starts at one result of each public function and reads what each result has: its attributes, and the methods
that need no argument. A new function without an example, and a new attribute with a long `repr`, fail here.
"""

from __future__ import annotations

import inspect
import itertools
import math
import re

import jax
import jax.numpy as jnp
import pytest

import costax
import traces
from costax.core import units
from costax.core.display import Printed
from costax.core.listing import shortened, shown
from traces import written

pytestmark = pytest.mark.once

LAYERS = 20
SPEC = "f32[32,32]"
# What a result has inside is walked so deep: `analysis.predict(device).parts[0].timing`.
DEPTH = 3
LINES, WIDTH = 5, 120


def program(x, *weights):
    for number, w in enumerate(weights):
        with jax.named_scope(f"layer_{number}"):
            x = jnp.tanh(x @ w)
    return x


def loss(x, *weights):
    return program(x, *weights).sum()


def programs_of(width):
    return program, tuple(costax.spec(f"f32[{width},{width}]") for _ in range(LAYERS))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return a result of each public function, by the name of the function."""
    folder = tmp_path_factory.mktemp("results")
    ones = [jnp.ones((32, 32))] * LAYERS
    analysis = costax.analyze(program, params_argnums=tuple(range(1, LAYERS)))(*[SPEC] * LAYERS)
    analysis.save(folder / "program.json")
    comparison = costax.compare(program)(*[SPEC] * LAYERS)
    return {
        "analyze": analysis,
        "analyze of symbols": costax.analyze(program)(*["f32[b,b]"] * LAYERS),
        "analyze of a module": costax.analyze(jax.jit(program).lower(*ones).compile())(),
        "compare": comparison,
        "count_trips": costax.count_trips(lambda x: jax.lax.while_loop(lambda v: v < 5, lambda v: v + 1, x))(0),
        "device": costax.device("h100-sxm"),
        "devices": costax.devices(),
        "diff": costax.diff(analysis, analysis),
        "explain": costax.explain("add"),
        "fits": costax.fits(analysis, "h100-sxm"),
        "join": costax.join(None, written(folder, "host.xplane.pb", traces.gpu_xplane())),
        "load": costax.load(folder / "program.json"),
        "measure": costax.measure(program, iterations=20)(*ones),
        "meter": costax.meter(program, *ones),
        "predict": costax.predict(analysis, "h100-sxm"),
        "read_passes": comparison.passes,
        "rules": costax.rules(),
        "saved_by_policy": costax.saved_by_policy(loss)(*ones),
        "sweep": costax.sweep(programs_of, {"width": [16, 32, 64]}, workers=1, progress=False),
        "Analysis.mfu": analysis.mfu(1.0, "h100-sxm"),
        "Analysis.explain_vs": analysis.explain_vs("fvcore"),
        "Budget": costax.Budget(**dict.fromkeys(inspect.signature(costax.Budget).parameters, 10**12)),
        "Target": costax.Target(program, ones),
        "Reading": reading(costax.meter(program, *ones)),
    }


def reading(meter):
    for _ in range(50):
        found = meter.tick()
    return found


# Functions that return no result of costax: functions, kernels' estimates for jax, figures, devices on a disk.
OTHERS = {
    "body_rule": "a decorator of a rule",
    "budget": "a decorator of a test",
    "calibrate": "returns a Device, as `device` does, after a minute",
    "cost_estimate": "returns jax's own estimate",
    "cost_rule": "a decorator of a rule",
    "from_torch": "returns a function and arrays",
    "plot_scaling": "returns a figure",
    "spec": "returns jax's own ShapeDtypeStruct",
    "with_cost_estimates": "returns a function",
}


def lines_of(text):
    return sum(math.ceil(max(len(line), 1) / WIDTH) for line in text.splitlines())


def walk(path, value, depth, seen):
    """Yield each value of costax, and each builtin container, that is reached from a value, with its path."""
    home = type(value).__module__.partition(".")[0]
    if home not in ("costax", "builtins", "collections", "types") or isinstance(value, int | float | str | bytes):
        return
    if value is None or inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value):
        return
    if home == "costax" and not isinstance(value, dict | list | tuple):
        if type(value) in seen:
            return
        seen.add(type(value))
    yield path, value
    if not depth:
        return
    if isinstance(value, dict):
        inside = itertools.chain.from_iterable(itertools.islice(value.items(), 1))
        yield from itertools.chain.from_iterable(walk(f"{path}[...]", each, depth - 1, seen) for each in inside)
    elif isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        yield from itertools.chain.from_iterable(walk(f"{path}[0]", each, depth - 1, seen) for each in value[:1])
    if isinstance(value, Printed) and not isinstance(value, dict | list | tuple):
        for name, member in members(value):
            yield from walk(f"{path}.{name}", member, depth - 1, seen)


def members(value):
    """Yield the attributes of a result, and what its methods without arguments return."""
    for name in dir(value):
        if name.startswith("_") or name in ("save", "tick", "skip") or name.startswith("plot_"):
            continue
        try:
            member = getattr(value, name)
            if inspect.ismethod(member):
                parameters = inspect.signature(member).parameters.values()
                if any(each.default is each.empty and each.kind < each.VAR_POSITIONAL for each in parameters):
                    continue
                member, name = member(), f"{name}()"
        except costax.CostaxError:
            # A question that this program does not answer, such as the formulas of a program without symbols.
            continue
        yield name, member


@pytest.fixture(scope="module")
def walked(results):
    seen = set()
    return [each for name, value in results.items() for each in walk(name, value, DEPTH, seen)]


def test_every_public_function_has_a_result_in_the_walk(results):
    functions = {name for name in costax.__all__ if inspect.isroutine(getattr(costax, name))}
    begun = {name.partition(" ")[0] for name in results}
    assert functions - begun == set(OTHERS)


def test_every_public_class_of_results_is_walked(walked):
    classes = {getattr(costax, name) for name in costax.__all__}
    classes = {each for each in classes if inspect.isclass(each) and issubclass(each, Printed)}
    found = {base for _, value in walked for base in type(value).__mro__}
    assert {each.__name__ for each in classes - found} == set()


def test_every_repr_has_at_most_five_lines(walked):
    assert len(walked) > 150
    # The arguments of a target are the user's own.
    found = {path: repr(value) for path, value in walked if not path.startswith(("Target.args", "analyze.tree.ch"))}
    assert {path: text[:80] for path, text in found.items() if lines_of(text) > LINES} == {}
    own = {path: text for path, text in found.items() if not path.startswith("explain.examples")}
    assert {path: text[:80] for path, text in own.items() if "object at 0x" in text} == {}


def test_every_result_prints_as_a_table_and_has_html(walked):
    shown_here = [(path, value) for path, value in walked if isinstance(value, Printed | costax.Reading)]
    assert len(shown_here) > 80
    assert [path for path, value in shown_here if "<" not in value._repr_html_()] == []
    empty = [path for path, value in shown_here if isinstance(value, dict | list | tuple) and not value]
    one_line = {path for path, value in shown_here if len(str(value).splitlines()) < 2} - set(empty)
    # The answer of `fits` is a sentence, and a loop prints a reading at each step.
    assert {path.rpartition(".")[2] for path in one_line} <= {"fits", "fits()", "Reading"}


def test_what_the_methods_of_results_return_is_shown_too(walked):
    """A mapping or a sequence of more than five lines has a table, since its `repr` does not show all."""
    plain = [path for path, value in walked if type(value) in (dict, list, tuple) and "()" in path.rpartition(".")[2]]
    long = [path for path in plain if lines_of(repr(dict(walked)[path])) > LINES]
    assert long == []


def test_the_tables_of_lists_fit_a_screen_and_their_numbers_have_units(results):
    prediction, comparison = results["predict"], results["compare"]
    shown_here = [prediction.parts, results["analyze"].kernels(), results["analyze"].memory_timeline()]
    shown_here += [comparison.compiled.instruction_costs, comparison.passes.steps, results["diff"].layers()]
    shown_here += [results["join"].by_scope(), results["join"].rows, results["analyze of a module"].by_scope()]
    for each in shown_here:
        assert max(map(len, str(each).splitlines())) <= WIDTH, str(each)[:300]
        assert "None" not in str(each)
    assert f" {units.seconds(prediction.parts[0].seconds)} " in str(prediction.parts)
    # an array of 32 x 32 float32
    assert "4 KiB" in str(results["analyze"].live_at_peak())


@pytest.mark.parametrize("width", [60, 80])
def test_every_result_that_is_printed_fits_the_terminal_and_breaks_no_number(walked, monkeypatch, width):
    shown_here = {path: value for path, value in walked if isinstance(value, Printed)}
    whole = {path: str(value) for path, value in shown_here.items()}
    reprs = {path: repr(value) for path, value in shown_here.items()}
    # Without a terminal the tables are as wide as they need, so some have to change.
    assert sum(max(map(len, text.splitlines()), default=0) > width for text in whole.values()) > 10
    monkeypatch.setenv("COLUMNS", str(width))
    fitting = {path: str(value) for path, value in shown_here.items()}
    assert {p for p, text in fitting.items() if max(map(len, text.splitlines()), default=0) > width} == set()
    assert {p for p, text in fitting.items() if not numbers(text) <= numbers(whole[p])} == set()
    assert {path: repr(value) for path, value in shown_here.items()} == reprs


def numbers(text):
    """The numbers with separators, `1,814,073,344`, which a line break in them would change."""
    return set(re.findall(r"\d{1,3}(?:,\d{3})+", text))


def test_the_devices_are_their_names_and_print_shows_their_figures(results):
    text = repr(results["devices"])
    assert text.startswith(f"{{{len(costax.devices())} entries: 'a100-sxm-40', 'a100-sxm-80', ")
    assert text.endswith("more; print() shows all}")
    assert "<costax.Device" not in text
    table = str(results["devices"])
    assert all(name in table for name in costax.devices())


def test_the_walk_notices_a_long_repr():
    class Long(Printed):
        def __repr__(self):
            return "\n" * LINES + "."

    assert [lines_of(repr(value)) for _, value in walk("long", Long(), 0, set())] == [] or lines_of("\n" * 5 + ".") == 6
    assert lines_of("x" * (WIDTH * LINES + 1)) == LINES + 1
    many = {f"a_long_name_of_a_layer_{n}": "x" * 50 for n in range(40)}
    assert lines_of(repr(many)) > LINES >= lines_of(repr(shown(many)))
    assert type(shown((1,)))((1, 2)) == (1, 2)
    assert shown(7) == 7
    assert shortened("", ["'a'", "'b'"], "{}", counted=2) == "{2 entries: 'a', 'b'; print() shows the table}"
