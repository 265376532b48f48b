"""The pytest plug-in: budgets and golden records, in test sessions of their own."""

from __future__ import annotations

import json
from importlib.metadata import entry_points

import pytest

import costax

pytest_plugins = ["pytester"]
# An editable install that is older than the plug-in does not know it yet.
REGISTERED = any(point.value == "costax.pytest_plugin" for point in entry_points(group="pytest11"))
PLUGIN = [] if REGISTERED else ["-p", "costax.pytest_plugin"]
MACS = 2 * 4 * 8 * 8


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
    first.stdout.fnmatch_lines(["*The golden record 'net' does not exist yet*", "*--costax-update*"])
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
            "*`net` does not have the costs of the golden record 'net'.*",
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
    found.stdout.fnmatch_lines(["*does not use the fixture*"])
