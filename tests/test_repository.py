"""The house: who imports whom, and what is written twice."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "costax"


def home(path: Path) -> str:
    """The file of the package, or the folder that it lies in."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_one_package_knows_jax_internals(path: Path):
    text = path.read_text()
    assert home(path) == "_jax" or not re.search(r"jax\._src|(?:from|import) jaxlib", text)


def test_the_floor_of_jax_is_the_one_that_is_tested():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    floor = next(d for d in dependencies if d.startswith("jax")).removeprefix("jax>=")
    assert f'FLOOR = "{floor}"' in (ROOT / "noxfile.py").read_text()
