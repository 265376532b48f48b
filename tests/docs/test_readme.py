"""The README says what is so."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import jax
import pytest
from click.testing import CliRunner

from costax.cli.app import main
from costax.program.targets import load_target

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


# Another jax brings other versions of flax, whose program is a little different.
same_jax = pytest.mark.skipif(f"(jax {jax.__version__})" not in README, reason="the README shows another jax")


def block(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)[1]


def test_the_first_program_prints_the_table_below_it():
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(block("python"), "README.md", "exec"), {})
    assert printed.getvalue().strip() == block("text").strip()


def shown(label: str) -> list[int]:
    """The numbers of a line of the account of GPT-2."""
    line = next(line for line in README.splitlines() if line.strip().startswith(label))
    return [int(number.replace(",", "")) for number in re.findall(r"[+-]?\d[\d,]*", line)]


def test_the_account_adds_up():
    lines = README[README.index("From this program") :].split("```")[0].splitlines()
    flops = 0
    for line in lines:
        # A label may have a number of its own: `algsimp, run 1: ...`.
        found = re.search(r"(?<=\s\s)[+-]?\d[\d,]*(?=\s|$)", line.rstrip())
        number = int(found[0].replace(",", "")) if found else 0
        if line.strip().startswith("="):
            assert number == flops, line
        else:
            flops += number


@same_jax
def test_the_account_begins_with_what_the_program_asks_for():
    import costax

    found = costax.analyze(load_target(f"{ROOT / 'examples' / 'gpt2.py'}:gpt2_train_step"))()
    assert shown("this program (jaxpr)") == [found.total.flops, found.total.transcendentals]


@pytest.mark.slow
@same_jax
def test_the_account_is_what_the_command_line_prints():
    target = f"{ROOT / 'examples' / 'gpt2.py'}:gpt2_train_step"
    printed = CliRunner().invoke(main, ["compare", target]).stdout
    account = README[README.index("From this program") :].split("```")[0].rstrip()
    assert account in printed


def test_the_first_program_has_at_most_eight_lines_of_code():
    assert len([line for line in block("python").splitlines() if line]) <= 8
