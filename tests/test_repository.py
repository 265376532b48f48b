"""The house: who imports whom, and what is written twice."""

from __future__ import annotations

import ast
import functools
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

# These tests read the source, whatever the version of jax.
pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "costax"

# A package imports only packages of lines above its own here; those of one line never import each other.
LINE = [
    {"errors"},
    {"core"},
    {"_jax"},
    {"rules"},
    {"program", "hlo"},
    {"performance"},
    {"analysis"},
    {"compare", "measure", "sweep"},
    {"report"},
    {"cli", "pytest_plugin"},
    {"__init__", "__main__"},
]
RANK = {name: number for number, names in enumerate(LINE) for name in names}


def modules(package: Path) -> dict[str, Path]:
    """The files of a package by dotted name."""
    names = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        names[".".join(("costax", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return names


@functools.cache
def named(text: str) -> list[tuple[str, str, int]]:
    """What a text imports, by the longest name that it may have, and by that of a module; and the line."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports are not read: {ast.unparse(node)}"
            found += [(f"{node.module}.{alias.name}", str(node.module), node.lineno) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            literal = [str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
            found += [(name, name, node.lineno) for name in literal]
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[tuple[str, int]]:
    """Every costax module that a file imports anywhere: in functions, for type checkers, and by a literal name."""
    for name, module, line in named(path.read_text()):
        yield (name if name in known else module), line


def graph(package: Path) -> dict[str, list[tuple[str, int]]]:
    known = modules(package)
    return {
        name: [(target, line) for target, line in imports(path, known) if target.split(".")[0] == "costax"]
        for name, path in known.items()
    }


def package_of(module: str) -> str:
    return (*module.split("."), "__init__")[1]


def upward(package: Path) -> list[str]:
    """The imports of a package that is not below the importer's own."""
    return [
        f"{name}:{line} imports {target}"
        for name, targets in graph(package).items()
        for target, line in targets
        if package_of(target) != package_of(name) and RANK[package_of(target)] >= RANK[package_of(name)]
    ]


def circles(package: Path) -> list[list[str]]:
    """The groups of files that import each other in a circle (Tarjan's strongly connected components)."""
    edges = {name: {target for target, _ in targets} for name, targets in graph(package).items()}
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for target in edges[name] & edges.keys():
            if target not in number:
                visit(target)
            if target in stack:
                low[name] = min(low[name], low[target])
        if low[name] == number[name]:
            start = stack.index(name)
            components.append(stack[start:])
            del stack[start:]

    for name in edges:
        if name not in number:
            visit(name)
    return [component for component in components if len(component) > 1]


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_package_has_its_place_in_the_line():
    entries = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert entries == RANK.keys()
    assert len(entries) <= 16


def test_a_package_imports_only_packages_below_it():
    assert upward(PACKAGE) == []


def test_no_files_import_each_other_in_a_circle():
    assert circles(PACKAGE) == []


@pytest.fixture
def copied(tmp_path) -> Path:
    return shutil.copytree(PACKAGE, tmp_path / "costax", ignore=shutil.ignore_patterns("__pycache__"))


UPWARD = {
    "at the top": "from costax.report import save\n",
    "in a function": "\ndef f():\n    from costax.report.text import plain\n    return plain\n",
    "for type checkers": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from costax import report\n",
    "in a class, under a condition": "class C:\n    if True:\n        import costax.report.text as text\n",
    "by name": 'import importlib\n\ndef f():\n    return importlib.import_module("costax.report")\n',
}


@pytest.mark.parametrize("text", UPWARD.values(), ids=list(UPWARD))
def test_an_upward_import_fails_wherever_it_hides(copied, text):
    path = copied / "core" / "cost.py"
    path.write_text(path.read_text() + text)
    assert len(upward(copied)) == 1


def test_a_circle_inside_a_package_fails(copied):
    path = copied / "core" / "dtypes.py"
    path.write_text(path.read_text() + "\ndef f():\n    from costax.core.cost import Cost\n    return Cost\n")
    assert {"costax.core.cost", "costax.core.dtypes"} <= set(circles(copied)[0])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_one_package_knows_jax_internals(path: Path):
    text = path.read_text()
    assert PACKAGE / "_jax" in path.parents or not re.search(r"jax\._src|(?:from|import) jaxlib", text)


def test_core_imports_neither_jax_nor_numpy_when_it_is_loaded():
    for path in (*PACKAGE.joinpath("core").rglob("*.py"), PACKAGE / "errors.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                assert not {name.split(".")[0] for name in names} & {"jax", "numpy"}, path


def test_the_floor_of_jax_is_the_one_that_is_tested():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    floor = next(d for d in dependencies if d.startswith("jax")).removeprefix("jax>=")
    assert f'FLOOR = "{floor}"' in (ROOT / "noxfile.py").read_text()


def test_class_names_are_unique_in_the_package():
    homes: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: places for name, places in homes.items() if len(places) > 1 and not name.startswith("_")} == {}
