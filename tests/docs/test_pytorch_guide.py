"""The guide "PyTorch models" prints what it shows: its files and its commands run word for word."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs/guides/pytorch.md"
NEEDED = ("torch", "torchax", "torchvision", "transformers")
ABSENT = [name for name in NEEDED if importlib.util.find_spec(name) is None]

# A file, a program or a command, then the text that it prints; only the file has none.
STEP = re.compile(r"(?:```python\n(?P<code>.*?)```|^    (?P<command>costax .*?)$)", re.DOTALL | re.MULTILINE)
SHOWN = re.compile(r"\s*```text\n(?P<text>.*?)```", re.DOTALL)


def steps():
    text = GUIDE.read_text()
    for step in STEP.finditer(text):
        shown = SHOWN.match(text, step.end())
        yield step["code"], step["command"], shown["text"] if shown else None


def run(code, command, directory):
    if command is not None:
        arguments = [sys.executable, "-m", "costax", *shlex.split(command)[1:]]
    else:
        arguments = [sys.executable, "-c", code]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(arguments, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}; nox -s torch runs this test")
def test_the_guide_prints_what_it_shows(tmp_path):
    printed = 0
    for code, command, shown in steps():
        if shown is None:
            (tmp_path / "tm.py").write_text(code)
            continue
        assert run(code, command, tmp_path).strip() == shown.strip()
        printed += 1
    assert printed == 4


def test_the_guide_has_a_file_and_four_outputs():
    found = list(steps())
    assert [shown is None for _, _, shown in found].count(False) == 4
    assert found[0][2] is None
