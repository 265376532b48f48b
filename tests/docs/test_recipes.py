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
    assert SHOWN.get(title, "") in capsys.readouterr().out
    written = re.findall(r'"(\w+\.(?:csv|png))"', code)
    assert all((tmp_path / name).stat().st_size > 100 for name in written)
