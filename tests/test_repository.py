"""The house: who imports whom, and what is written twice."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "costax"

# A file imports from floors below its own; files of one floor never import each other, but those of one folder may.
FLOORS = [
    {"dtypes", "logarithms"},
    {"errors", "progress"},
    {"polynomial"},
    {"cost", "expressions"},
    {"choices", "equation", "conventions", "hardware", "tree", "units"},
    {"_jax", "points", "pytrees", "registry"},
    {"arrays", "frame", "shapes", "frameworks", "ahead"},
    {"leaves", "bodies", "trace", "walk", "cases", "hlo", "lower", "numbering"},
    {"symbols"},
    {"growth"},
    {"analysis", "memory", "sizes", "targets", "options", "provenance", "communication", "modules"},
    {"activations", "budgets", "deltas", "places", "parameters", "interpolation", "difference"},
    {"ledgers"},
    {"symbolic", "ledger"},
    {"attribution", "changes", "conditions", "peers", "witness"},
    {"absence", "adoption"},
    {"reconcile"},
    {"comparison"},
    {"groups", "exchange_time", "fitting"},
    {"roofline", "fusions"},
    {"calibration"},
    {"prediction"},
    {"energy", "profiling", "substitution"},
    {"api"},
    {"trips", "measurement", "policies"},
    {"report"},
    {"explanation", "terminal"},
    {"sweeps"},
    {"commands", "modules_cli"},
    {"cli", "pytest_plugin", "snapshots", "__init__"},
    {"__main__"},
]
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}


def home(path: Path) -> str:
    """The file of the package, or the folder that it lies in."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The costax modules, by home, that a file imports when it is loaded: not for type checkers, not in functions."""
    tree = ast.parse(path.read_text())
    checking = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    found: set[str] = set()
    for node in tree.body:
        if id(node) in checking:
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "costax":
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("costax."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("costax."))
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_from_floors_below_its_own(path: Path):
    own = home(path)
    assert own in FLOOR_OF, f"{own} has no floor yet"
    for other in imports(path) - {own}:
        assert FLOOR_OF[other] < FLOOR_OF[own], (
            f"{own} (floor {FLOOR_OF[own]}) imports {other} (floor {FLOOR_OF[other]})"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_one_package_knows_jax_internals(path: Path):
    text = path.read_text()
    assert home(path) == "_jax" or not re.search(r"jax\._src|(?:from|import) jaxlib", text)


def test_the_floors_of_words_know_neither_jax_nor_numpy():
    for names in FLOORS[:5]:
        for name in names & {home(path) for path in FILES}:
            for path in [path for path in FILES if home(path) == name]:
                roots = {
                    (node.module or "").split(".")[0]
                    if isinstance(node, ast.ImportFrom)
                    else node.names[0].name.split(".")[0]
                    for node in ast.walk(ast.parse(path.read_text()))
                    if isinstance(node, ast.Import | ast.ImportFrom)
                }
                assert not roots & {"jax", "numpy"}, path


def test_the_floor_of_jax_is_the_one_that_is_tested():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    floor = next(d for d in dependencies if d.startswith("jax")).removeprefix("jax>=")
    assert f'FLOOR = "{floor}"' in (ROOT / "noxfile.py").read_text()
