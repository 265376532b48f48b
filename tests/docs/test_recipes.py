"""The recipes of the guide: each has at most three lines of code, and runs after the programs at the top."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "recipes.md").read_text(encoding="utf-8")
PROGRAMS, *SECTIONS = PAGE.split("\n## ")
RECIPES = {section.partition("\n")[0]: re.findall(r"```python\n(.*?)```", section, re.DOTALL) for section in SECTIONS}
SECTION = {section.partition("\n")[0]: section for section in SECTIONS}
# What the output of a recipe must contain: 2*32*64*256 + 2*32*256*10 FLOPs of products, and so on.
SHOWN = {
    "The FLOPs of each layer of a flax model": "Dense_0",
    "The MFU of a training step": "MFU",
    "Why XLA counts another number": "XLA counts",
    "Whether a step fits a device": "yes",
    "What dominates at a length of 8192": "scores",
    "Two architectures compared": "MLP -> MLP",
    "The formula": "4*d*s^2",
}


@pytest.mark.once
def test_there_are_twelve_recipes_of_at_most_three_lines():
    assert len(RECIPES) == 12
    for title, blocks in RECIPES.items():
        assert len(blocks) == 1, title
        assert len(blocks[0].splitlines()) <= 3, title


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_runs(title, tmp_path, monkeypatch, capsys):
    pytest.importorskip("flax")
    code = RECIPES[title][0]
    if "roofline" in title:
        pytest.importorskip("matplotlib").use("Agg")
    if "import torchvision" in code:
        pytest.importorskip("torchvision")
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("recipes")
    # flax makes dataclasses, which look up their module.
    monkeypatch.setitem(sys.modules, "recipes", module)
    for text in (re.findall(r"```python\n(.*?)```", PROGRAMS, re.DOTALL)[0], code):
        exec(compile(text, title, "exec", dont_inherit=True), vars(module))
    printed = capsys.readouterr().out
    assert SHOWN.get(title, "") in printed
    assert_excerpt(re.findall(r"```text\n(.*?)```", SECTION[title], re.DOTALL), printed)
    written = re.findall(r'"(\w+\.(?:csv|png))"', code)
    assert all((tmp_path / name).stat().st_size > 100 for name in written)


def assert_excerpt(blocks: list[str], printed: str) -> None:
    """Check that the page shows lines of the output in their order; a line that ends in " ..." is the start of one."""
    lines = iter(printed.splitlines())
    for shown in filter(str.strip, "".join(blocks).splitlines()):
        start = shown.removesuffix(" ...")
        assert any(line.rstrip() == start or (start != shown and line.startswith(start)) for line in lines), shown


@pytest.mark.once
def test_an_excerpt_that_is_not_of_the_output_is_noticed():
    printed = "a 1\nb 2\nc 3 more"
    assert_excerpt(["a 1\n", "c 3 ...\n"], printed)
    for wrong in ("a 2\n", "c 3\n", "c 3 more\na 1\n"):
        with pytest.raises(AssertionError):
            assert_excerpt([wrong], printed)
    # Every recipe that prints shows what.
    silent = {title for title, (code,) in RECIPES.items() if "print(" in code and "```text" not in SECTION[title]}
    assert silent == {"A program sharded over a mesh", "A PyTorch model"}, "they depend on the machine"
