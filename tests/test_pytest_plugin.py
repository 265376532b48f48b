"""The pytest plug-in: budgets and golden records, in test sessions of their own."""

from __future__ import annotations

import json
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

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


# Sessions of pytest one after the other in one process, which imports jax once. What each prints is a file.
SESSIONS = """
    import contextlib, json, pathlib, sys, pytest

    text = pathlib.Path("costs.txt").read_text()
    for name, factor, options in json.loads(sys.argv[1]):
        pathlib.Path("test_costs.py").write_text(text.format(factor=factor))
        sys.modules.pop("test_costs", None)
        with open(f"{name}.out", "w") as file, contextlib.redirect_stdout(file):
            pytest.main(["-p", "no:randomly", "-p", "no:xdist", *options])
"""


class Printed:
    """What a session printed."""

    def __init__(self, path: Path) -> None:
        self.lines = path.read_text().splitlines()

    def assert_outcomes(self, **expected: int) -> None:
        assert pytest.RunResult.parse_summary_nouns(self.lines) == expected

    def fnmatch_lines(self, patterns: list[str]) -> None:
        pytest.LineMatcher(self.lines).fnmatch_lines(patterns)


def run(pytester, **sessions: tuple[int, tuple[str, ...]]) -> dict[str, Printed]:
    """Run a session for each (factor, options), in this order."""
    (pytester.path / "costs.txt").write_text(textwrap.dedent(TEST_FILE))
    (pytester.path / "sessions.py").write_text(textwrap.dedent(SESSIONS))
    given = [(name, factor, [*PLUGIN, *options]) for name, (factor, options) in sessions.items()]
    # In a process of its own: in this one pytester would forget modules of jax and of costax that it sees imported.
    # Without bytecode, for a test file of the same size and second would be taken for the one before.
    done = pytester.run(sys.executable, "-B", "sessions.py", json.dumps(given))
    assert done.ret == 0
    return {name: Printed(pytester.path / f"{name}.out") for name in sessions}


@pytest.mark.slow
@pytest.mark.once
def test_the_plugin_checks_budgets_and_golden_records(pytester):
    update = ("--costax-update", "--costax")
    found = run(pytester, first=(1, ()), table=(1, update), grown=(2, ()), worse=(3, ()))
    first, table, grown, worse = found.values()
    first.assert_outcomes(passed=2, failed=2)
    first.fnmatch_lines(["*The golden record 'net' does not exist yet*", "*--costax-update*"])
    table.assert_outcomes(passed=4)
    table.fnmatch_lines(["*= costs =*", "program*MACs*FLOPs*traffic*test*", "net*512*1.02 k*test_checks"])

    text = (pytester.path / "costax_snapshots" / "net.json").read_text()
    assert str(pytester.path) not in text
    assert json.loads(text)["versions"] == {}
    assert costax.load(pytester.path / "costax_snapshots" / "net.json").total.macs == MACS

    grown.assert_outcomes(passed=1, failed=3)
    grown.fnmatch_lines(
        [
            "*`net` is over its budget in macs.*",
            "*`net` does not have the costs of the golden record 'net'.*",
            "*FLOPs: 1.02 kFLOP -> 1.54 kFLOP (+50 %)*",
            "*layer_1 grew by 512 FLOP: 512 FLOP -> 1.02 kFLOP (+100 %)*",
        ]
    )
    worse.assert_outcomes(failed=4)
    worse.fnmatch_lines(["*macs > +60%: 512 MAC -> 1.02 kMAC (+100 %)*"])


def test_a_marker_without_the_fixture_is_an_error(pytester):
    pytester.makepyfile("import pytest\n@pytest.mark.cost_budget(flops=1)\ndef test_nothing(): pass\n")
    found = pytester.runpytest_subprocess(*PLUGIN, "-p", "no:randomly")
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines(["*does not use the fixture*"])
