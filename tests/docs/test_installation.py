"""What the documentation tells a reader to install and to run in CI works while costax is on no package index."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from costax.cli.app import main
from costax.cli.fits import _EXIT_CODES

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *(p for p in sorted((ROOT / "docs").rglob("*.md")) if "generated" not in p.parts)]
# The start page says so; when that changes, these lines may name the index.
ON_NO_INDEX = "costax is not on a package index yet"


def test_every_line_that_installs_costax_installs_it_from_a_clone():
    assert ON_NO_INDEX in (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    from_clone: list[str] = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"(?:pip install|Install) [`'\"]*costax\b.*", text)
        assert not named, f"{page.name}: {named}"
        from_clone += re.findall(r"pip install '\.\[(\w+)\]'", text)
    assert {"torch", "plots", "pandas", "sweep", "tpu"} <= set(from_clone) <= extras


def test_the_help_has_every_exit_code():
    shown = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    (codes,) = re.findall(r"Exit codes: (.+?)\.", shown)
    assert {int(code) for code in re.findall(r"\d", codes)} == {0, 1, 2} | set(_EXIT_CODES.values())


MODEL = """
import costax, jax.numpy as jnp

def factory():
    return jnp.matmul, (costax.spec("f32[4,8]"), costax.spec("f32[8,{columns}]"))
"""


@pytest.mark.parametrize(("columns", "code"), [(8, 0), (9, 1)])
def test_the_steps_for_ci_compare_the_base_branch_with_the_work_tree(columns, code, tmp_path):
    page = (ROOT / "docs" / "guides" / "budgets.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"- run: \|\n((?:    .+\n)+)", page)
    head, model, binaries = tmp_path / "head", "model.py", tmp_path / "bin"
    head.mkdir()
    (head / model).write_text(MODEL.format(columns=8))
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", model], [*identity, "commit", "-qm", "base"]):
        subprocess.run(["git", *words], cwd=head, check=True)
    subprocess.run(["git", "update-ref", "refs/remotes/origin/main", "HEAD"], cwd=head, check=True)
    (head / model).write_text(MODEL.format(columns=columns))
    binaries.mkdir()
    (binaries / "costax").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m costax "$@"\n')
    (binaries / "costax").chmod(0o755)
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-e", "-c", script], cwd=head, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert (head / "old.json").is_file()
    assert (head / "new.json").is_file()
