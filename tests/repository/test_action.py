"""The GitHub Action: its steps, run on a repository with two commits."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / ".github" / "actions"

MODEL = """
import costax
import jax.numpy as jnp

def layer(x, w):
    return jnp.tanh(x @ w)

def net():
    return layer, (costax.spec("f32[8,{width}]"), costax.spec("f32[{width},16]"))
"""
BROKEN = "def net():\n    raise ValueError('no such model')\n"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


class Repository:
    """A repository, in a folder with a space in its name, whose first commit is the base of a pull request."""

    def __init__(self, folder: Path, before: dict[str, str]) -> None:
        self.folder = folder / "a repository"
        self.folder.mkdir()
        git(self.folder, "init", "--quiet")
        self.write(before)
        self.base = git(self.folder, "rev-parse", "HEAD").strip()
        tools = folder / "tools"
        tools.mkdir()
        costax = tools / "costax"
        costax.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m costax "$@"\n')
        costax.chmod(0o755)
        self.path = f"{tools}{os.pathsep}{os.environ['PATH']}"

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.folder / name).write_text(text)
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "--quiet", "--message", "change")

    def compared(self, targets: str, **settings: str) -> tuple[int, str]:
        folder = self.folder.parent / "records"
        done = subprocess.run(
            ["bash", str(SCRIPTS / "cost-diff.sh")],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": self.path,
                "JAX_PLATFORMS": "cpu",
                "BASE": self.base,
                "TARGETS": targets,
                "FOLDER": str(folder),
                **settings,
            },
            capture_output=True,
            text=True,
        )
        assert git(self.folder, "worktree", "list").count("\n") == 1, "the checkout of the base is removed"
        summary = folder / "summary.md"
        return done.returncode, summary.read_text() if summary.exists() else done.stderr


@pytest.fixture
def repository(tmp_path):
    if not shutil.which("git") or not shutil.which("bash"):
        pytest.skip("needs git and bash")
    found = Repository(tmp_path, {"model.py": MODEL.format(width=32)})
    found.write({"model.py": MODEL.format(width=64), "new.py": MODEL.format(width=8), "broken.py": BROKEN})
    return found


def test_the_summary_has_each_program_and_names_what_fails_the_step(repository):
    targets = "model.py:net\n\nnew.py:net\nbroken.py:net\n"
    code, summary = repository.compared(targets, FAIL_ON="params > +0\nflops > +1%\n")
    assert code == 1
    changed, new, broken = summary.split("## `")[1:]
    # 2 x 8 x 16 x 32, and twice as many.
    assert "8.19 kFLOP" in changed
    assert "16.4 kFLOP" in changed
    assert ":x: `flops > +1%`" in changed
    assert ":x: `params" not in changed
    assert "New" in new
    assert "no such model" in broken


def test_a_program_without_change_passes_and_its_options_are_words(repository):
    code, summary = repository.compared("model.py:layer --input f32[4,4] --input 'f32[4,4]'", FAIL_ON="flops > +1%")
    assert code == 0
    assert "No cost changed" in summary


@pytest.mark.slow
def test_a_comparison_has_what_the_compiler_made_of_it(repository):
    code, summary = repository.compared("model.py:net", COMPILE_FOR="cpu")
    assert code == 0
    assert "compiled for cpu" in summary
    assert "FLOPs that run" in summary
    # 2 x 8 x 16 x 32 and 2 x 8 x 16 x 64.
    assert "8.19 kFLOP" in summary
    assert "16.4 kFLOP" in summary


@pytest.mark.slow
def test_a_threshold_on_compiled_counts_names_the_layers_that_the_compiler_made_larger(repository):
    code, summary = repository.compared("model.py:net", COMPILE_FOR="cpu", FAIL_ON="executed_flops > +1%")
    assert code == 1
    # Both programs have the same name, and a layer without a scope.
    assert "### jit\\_layer\n" in summary
    assert re.search(r"Where executed FLOPs changed:\n\n.*\n.*\n\| \(no scope\) \|.* \+100 % \|", summary), summary
    assert "importing" not in summary


def test_a_comment_is_made_once_and_changed_later(repository, tmp_path):
    log = tmp_path / "calls"
    fake = Path(repository.path.split(os.pathsep)[0]) / "gh"
    summary = tmp_path / "summary.md"
    summary.write_text("## costs\n" + "x" * 100_000)
    for known, method in (("", "POST"), ("17", "PATCH")):
        fake.write_text(
            f'#!/bin/bash\nif [ "$2" = --paginate ]; then echo "{known}"; else printf "%s\\n" "$@" > "{log}"; fi\n'
        )
        fake.chmod(0o755)
        environment = {"GH_TOKEN": "none", "GITHUB_REPOSITORY": "a/b", "NUMBER": "3", "SUMMARY": str(summary)}
        subprocess.run(
            ["bash", str(SCRIPTS / "comment.sh")],
            env={**os.environ, **environment, "PATH": repository.path},
            check=True,
        )
        called = log.read_text()
        assert f"--method\n{method}" in called
        assert ("comments/17" in called) == (method == "PATCH")
        assert "body=<!-- costax -->\n## costs" in called
        assert len(called) < 65_536


def test_the_action_gives_its_scripts_what_they_read():
    _, install, compare, comment = (ROOT / "action.yml").read_text().split("    - name: ")
    given = [set(re.findall(r"^        ([A-Z_]+): ", step, re.M)) for step in (install, compare, comment)]
    assert given[1:] == [
        {"BASE", "TARGETS", "COMPILE_FOR", "FAIL_ON", "INSTALL", "FOLDER"},
        {"GH_TOKEN", "NUMBER", "SUMMARY"},
    ]
    for step, name in ((compare, "cost-diff.sh"), (comment, "comment.sh"), (install, "")):
        run = step.partition("run:")[2]
        # What a pull request says is no code: values come by the environment.
        assert "${{" not in run
        assert name in run
        assert not name or (SCRIPTS / name).is_file()
