"""The paths of tests that comments, pages and commands name."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {".md", ".py", ".toml", ".yml", ".yaml", ".cfg", ""}
# A folder of tests/, or a file with its suffix. Paths of other repositories have another folder before `tests/`.
NAMED = re.compile(r"(?<![\w/.])tests/[\w/]*(?:\.(?:py|json)\b)?")


def files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file() and path.suffix in TEXTS]


def absent(text: str) -> list[str]:
    return [name for name in NAMED.findall(text) if not (ROOT / name).exists()]


def test_every_path_of_a_test_exists():
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in files()
        if path != Path(__file__)
        for name in absent(path.read_text())
    }
    assert missing == set()


def test_a_path_that_does_not_exist_is_noticed():
    assert absent("see tests/rules/test_fft.py, and tests/data/records") == []
    assert absent("see tests/rules/test_no_such.py") == ["tests/rules/test_no_such.py"]
    assert absent("pytest tests/no_such_folder") == ["tests/no_such_folder"]
