"""Budgets, differences for pull requests, and the pytest plug-in."""

from __future__ import annotations

import json
from importlib.metadata import entry_points

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner

import costax
from costax.analysis import conditions
from costax.analysis.analysis import Analysis
from costax.analysis.diff import Change, diff
from costax.cli.app import main
from costax.core.cost import Cost
from costax.core.size import Size
from costax.errors import BudgetError, InputError, UnitError
from costax.program.tree import Row
from costax.report import pull_request

pytest_plugins = ["pytester"]

# An editable install that is older than the plug-in does not know it yet.
REGISTERED = any(point.value == "costax.pytest_plugin" for point in entry_points(group="pytest11"))
PLUGIN = [] if REGISTERED else ["-p", "costax.pytest_plugin"]


def net(w, x):
    with jax.named_scope("layer_0"):
        x = jnp.tanh(x @ w)
    with jax.named_scope("layer_1"):
        return jnp.tanh(x @ w)


SHAPES = (costax.spec("f32[8,8]"), costax.spec("f32[4,8]"))
MACS = 2 * 4 * 8 * 8


def counted() -> Analysis:
    return costax.analyze(net, params_argnums=0)(*SHAPES)


@pytest.mark.parametrize(
    "limits",
    [
        {"macs": MACS, "flops": "1.024 kFLOP", "transcendentals": 64},
        {"params": 64, "param_bytes": "256 B", "uncounted": 0},
        {"bytes_unfused": "1 MiB", "peak_bytes": "1 MiB", "collective_bytes": 0, "ops": None},
    ],
)
def test_a_program_within_its_budget_passes(limits):
    analysis = counted()
    assert analysis.check(**limits) is analysis
    assert analysis.check(costax.Budget(**limits)) is analysis


def test_a_program_over_its_budget_says_where_the_work_is():
    with pytest.raises(BudgetError) as caught:
        counted().check(macs=MACS - 1, params="1 k")
    assert str(caught.value) == (
        "`net` is over its budget in macs.\n"
        "  macs 512 MAC of 511 MAC, 0.2 % over: 512 of 511\n"
        "     50.0 %     256 MAC  layer_0\n"
        "     50.0 %     256 MAC  layer_1\n"
        "Make it cheaper, or raise the budget."
    )


def test_a_loop_of_unknown_length_is_uncounted():
    analysis = costax.analyze(lambda x: jax.lax.while_loop(lambda c: jnp.sum(c) < 3, lambda c: c * 2, x))(SHAPES[1])
    with pytest.raises(BudgetError, match="while"):
        analysis.check(uncounted=0)


def test_a_limit_that_cannot_be_checked_is_an_error():
    with pytest.raises(BudgetError, match="params_argnums"):
        costax.analyze(net)(*SHAPES).check(params=1)
    with pytest.raises(UnitError, match="4 GMAC"):
        counted().check(macs="4 apples")
    with pytest.raises(TypeError, match="speed"):
        counted().check(speed=1)


def test_the_decorator_stops_a_function_before_it_runs():
    ran = []

    @costax.budget(macs=4 * 8 * 3)
    def product(a, b):
        ran.append(a.shape)
        return a @ b

    small, weights = jnp.ones((4, 8)), jnp.ones((8, 3))
    assert product(small, weights).shape == (4, 3)
    # Once while it is traced, once for the answer; the same shapes are not traced again.
    before = len(ran)
    product(small, weights)
    assert len(ran) == before + 1
    with pytest.raises(BudgetError, match="macs"):
        product(jnp.ones((5, 8)), weights)
    assert product.__name__ == "product"
    assert jax.jit(product)(small, weights).shape == (4, 3)


def test_a_budget_is_read_when_the_decorator_is_applied():
    with pytest.raises(UnitError):
        costax.budget(flops="many")


@pytest.mark.parametrize(
    ("text", "before", "after", "holds"),
    [
        ("flops > +1%", 100, 101, False),
        ("flops > +1%", 100, 102, True),
        ("flops >= +1%", 100, 101, True),
        ("flops > +1%", 100, 90, False),
        ("flops > +1%", 0, 1, True),
        ("flops > +1%", 0, 0, False),
        ("flops < -10%", 100, 89, True),
        ("flops < -10%", 100, 90, False),
        ("params > +0", 100, 101, True),
        ("bytes_unfused > +1 KiB", 100, 1125, True),
        ("bytes_unfused > +1 KiB", 100, 1124, False),
        ("flops>1 kFLOP", 2000, 1001, True),
        ("macs <= 5", 9, 5, True),
        ("flops > +0.5 %", 1000, 1006, True),
    ],
)
def test_conditions_compare_as_they_read(text, before, after, holds):
    assert conditions.parse(text).holds(Change(before, after)) == holds


@pytest.mark.parametrize("text", ["flops", "flops > ", "flops > much", "speed > 3", "flops = 3", ""])
def test_what_is_no_condition_is_an_error(text):
    with pytest.raises(UnitError):
        conditions.parse(text)


def model(layers: int, work: int, extra: int = 0) -> Analysis:
    rows = {
        Row((f"block_{i}", part), "forward", "dot_general", ""): Cost.macs_of("f32", work)
        for i in range(layers)
        for part in ("up", "down")
    }
    if extra:
        rows |= {
            Row((f"block_{i}", "gate"), "forward", "dot_general", ""): Cost.macs_of("f32", extra) for i in range(layers)
        }
    sizes = {(row.scope, "f32"): Size(10, 40) for row in rows}
    return Analysis("model", Cost.sum(rows.values()), parameters=sizes, saved_rows=rows)


GOLDEN = """\
### model: FLOPs +10 %

* :x: `flops > +1%`: 40 kFLOP -> 44 kFLOP (+10 %)

|  | before | after | change | % |
| --- | --: | --: | --: | --: |
| FLOPs | 40 kFLOP | 44 kFLOP | +4 kFLOP | +10 % |
| MACs | 20 kMAC | 22 kMAC | +2 kMAC | +10 % |
| OPs | 40 kOP | 44 kOP | +4 kOP | +10 % |
| parameters | 100 | 150 | +50 | +50 % |
| parameter bytes | 400 B | 600 B | +200 B | +50 % |

Where FLOPs changed:

| layer | before | after | change | % |
| --- | --: | --: | --: | --: |
| block\\_0..4/gate x 5 | 0 FLOP | 4 kFLOP | +4 kFLOP | new |
"""


def test_a_pull_request_that_adds_a_layer_reads_as_it_should():
    found = diff(model(5, 2000), model(5, 2000, extra=400))
    failures = conditions.failures(found, [conditions.parse("flops > +1%"), conditions.parse("flops > +20%")])
    assert pull_request.as_markdown(found, failures) == GOLDEN


def test_a_change_that_keeps_the_totals_is_said():
    assert "No cost changed." in pull_request.as_markdown(diff(model(2, 5), model(2, 5)))
    rows = {Row(("elsewhere",), "forward", "dot_general", ""): Cost.macs_of("f32", 20)}
    moved = Analysis("model", Cost.macs_of("f32", 20), parameters={((), "f32"): Size(40, 160)}, saved_rows=rows)
    assert "work moved between layers" in pull_request.as_markdown(diff(model(2, 5), moved))


def test_diff_fails_on_the_command_line_by_its_exit_code(tmp_path):
    model(5, 2000).save(tmp_path / "old.json")
    model(5, 2000, extra=400).save(tmp_path / "new.json")
    files = [str(tmp_path / "old.json"), str(tmp_path / "new.json")]
    failed = CliRunner().invoke(main, ["diff", *files, "--fail-on", "flops > +1%", "--markdown"])
    assert (failed.exit_code, failed.stdout) == (1, GOLDEN)
    assert "flops > +1%: 40 kFLOP -> 44 kFLOP (+10 %)" in failed.stderr
    assert CliRunner().invoke(main, ["diff", *files, "--fail-on", "flops > +10%"]).exit_code == 0
    wrong = CliRunner().invoke(main, ["diff", *files, "--fail-on", "speed > +10%"])
    assert wrong.exit_code == 2
    assert "Traceback" not in wrong.stderr


TEST_FILE = """
    import jax, jax.numpy as jnp, pytest, costax

    FACTOR = {factor}

    def net(w, x):
        with jax.named_scope("layer_0"):
            x = jnp.tanh(x @ w)
        with jax.named_scope("layer_1"):
            for _ in range(FACTOR):
                x = jnp.tanh(x @ w)
            return x

    SHAPES = costax.spec("f32[8,8]"), costax.spec("f32[4,8]")

    def test_checks(cost):
        cost(net)(*SHAPES).check(macs=512, uncounted=0)

    @pytest.mark.cost_budget(macs=512)
    def test_marker(cost):
        cost(net)(*SHAPES)

    def test_golden(cost):
        cost(net)(*SHAPES)
        cost.snapshot("net")

    def test_golden_with_room(cost):
        cost.snapshot("room", cost(net)(*SHAPES), fail_on="macs > +60%")
"""


def run(pytester, *options: str, factor: int = 1):
    pytester.makepyfile(test_costs="\n".join(line[4:] for line in TEST_FILE.format(factor=factor).splitlines()))
    # In a process of its own: in this one pytester would forget modules of jax and of costax that it sees imported.
    return pytester.runpytest_subprocess(*PLUGIN, "-p", "no:randomly", "-p", "no:xdist", *options)


@pytest.mark.slow
@pytest.mark.once
def test_the_plugin_checks_budgets_and_golden_records(pytester):
    first = run(pytester)
    first.assert_outcomes(passed=2, failed=2)
    first.stdout.fnmatch_lines(["*There is no golden record 'net' yet*", "*--costax-update*"])
    table = run(pytester, "--costax-update", "--costax")
    table.assert_outcomes(passed=4)
    table.stdout.fnmatch_lines(["*= costs =*", "program*MACs*FLOPs*traffic*test*", "net*512*1.02 k*test_checks"])

    text = (pytester.path / "costax_snapshots" / "net.json").read_text()
    assert str(pytester.path) not in text
    assert json.loads(text)["versions"] == {}
    assert costax.load(pytester.path / "costax_snapshots" / "net.json").total.macs == MACS

    grown = run(pytester, factor=2)
    grown.assert_outcomes(passed=1, failed=3)
    grown.stdout.fnmatch_lines(
        [
            "*`net` is over its budget in macs.*",
            "*`net` does not cost what the golden record 'net' says.*",
            "*FLOPs: 1.02 kFLOP -> 1.54 kFLOP (+50 %)*",
            "*layer_1 grew by 512 FLOP: 512 FLOP -> 1.02 kFLOP (+100 %)*",
        ]
    )
    worse = run(pytester, factor=3)
    worse.assert_outcomes(failed=4)
    worse.stdout.fnmatch_lines(["*macs > +60%: 512 MAC -> 1.02 kMAC (+100 %)*"])


def test_a_marker_without_the_fixture_is_an_error(pytester):
    pytester.makepyfile("import pytest\n@pytest.mark.cost_budget(flops=1)\ndef test_nothing(): pass\n")
    found = pytester.runpytest_subprocess(*PLUGIN, "-p", "no:randomly")
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines(["*does not use it*"])


def test_a_loaded_record_has_no_peak():
    with pytest.raises(InputError, match="from a record"):
        model(1, 1).check(peak_bytes=1)


def test_a_formula_is_within_no_budget_until_it_has_values():
    analysis = costax.analyze(lambda w, x: x @ w)(costax.spec("f32[8,3]"), costax.spec("f32[b,8]"))
    # jax writes the product transposed or not; the formula is the same.
    with pytest.raises(BudgetError, match=r"b\*?"):
        analysis.check(macs="1 k")
    with pytest.raises(BudgetError, match="formulas and no numbers"):
        costax.analyze(lambda w, x: x @ w)(costax.spec("f32[8,3]"), costax.spec("f32[b,8]")).check(macs="1 k")
    wide = costax.analyze(lambda w, x: x @ w)(costax.spec("f32[8,3]"), costax.spec("f32[b,8]")).evaluate(b=4)
    assert wide.check(macs=4 * 8 * 3).total.macs == 96
