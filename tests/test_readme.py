"""The README says what is so."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def block(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)[1]


def test_the_first_program_prints_the_table_below_it():
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(block("python"), "README.md", "exec"), {})
    assert printed.getvalue().strip() == block("text").strip()


def test_the_first_program_has_at_most_eight_lines_of_code():
    assert len([line for line in block("python").splitlines() if line]) <= 8
