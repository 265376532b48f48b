"""The types that a user sees: the marker file, mypy on a program of a user, and pyright's report on every public type.

`nox -s types` installs both type checkers; where one is missing, its test is skipped.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from importlib.resources import files

import pytest

PROGRAM = '''\
import costax
from costax import Body, Cost, Equation, body_rule, cost_rule


@cost_rule("my_stencil")
def my_stencil(eqn: Equation) -> Cost:
    """Each output element is the sum of five neighbours."""
    return Cost.arithmetic(eqn.out.dtype, 4 * eqn.out.size)


@body_rule("my_loop")
def my_loop(eqn: Equation) -> list[Body]:
    """The body runs `count` times."""
    return [Body(eqn.params["jaxpr"], times=eqn.params["count"], loop=True)]


def double(x: int) -> int:
    return 2 * x


analysis = costax.analyze(double)(costax.spec("f32[8]"))
reveal_type(my_stencil)
reveal_type(analysis)
reveal_type(costax.analyze("module.hlo.pb")())
reveal_type(analysis.total)
reveal_type(analysis.by_scope())
reveal_type(costax.compare(double)(costax.spec("f32[8]")))
reveal_type(costax.predict(analysis, "h100-sxm"))
reveal_type(costax.budget(flops="1 GFLOP")(double))
'''
# What is revealed, line by line; a checker that falls back to Any fails.
REVEALED = (
    "Equation",
    "Analysis",
    "CompiledModule",
    "Cost",
    "Cost",
    "Comparison",
    "Prediction",
    "int",
)

needs_mypy = pytest.mark.skipif(not importlib.util.find_spec("mypy"), reason="mypy is not installed: nox -s types")
needs_pyright = pytest.mark.skipif(
    not importlib.util.find_spec("pyright"), reason="pyright is not installed: nox -s types"
)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)


def test_the_package_says_that_it_is_typed():
    assert files("costax").joinpath("py.typed").is_file()


@pytest.mark.slow
@needs_mypy
def test_mypy_sees_the_types_of_the_public_api(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    report = run("mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program))
    assert report.returncode == 0, report.stdout + report.stderr
    revealed = re.findall(r'Revealed type is "(.*)"', report.stdout)
    assert len(revealed) == len(REVEALED), report.stdout
    for shown, expected in zip(revealed, REVEALED, strict=True):
        assert re.search(rf"\b{expected}\b", shown), shown
        assert "Any" not in shown, shown


@pytest.mark.slow
@needs_pyright
def test_pyright_knows_every_type_of_every_public_module():
    report = run(
        "pyright", "--pythonpath", sys.executable, "--verifytypes", "costax", "--ignoreexternal", "--outputjson"
    )
    completeness = json.loads(report.stdout)["typeCompleteness"]
    problems = {
        symbol["name"]: [diagnostic["message"] for diagnostic in symbol["diagnostics"]]
        for symbol in completeness["symbols"]
        if symbol["isExported"] and not symbol["isTypeKnown"]
    }
    assert problems == {}
    assert completeness["completenessScore"] == 1
    # The report is about the package, and not about an empty one.
    assert completeness["exportedSymbolCounts"]["withKnownType"] > 1000
