"""The API pages of the documentation describe every public name, each once."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from pathlib import Path

import pytest

import costax
import costax.errors
from costax.compare.stage_costs import StageCost
from costax.rules import traits

PAGES = Path(__file__).resolve().parents[2] / "docs" / "api"
DIRECTIVE = re.compile(r"^\.\. auto(?:function|class|decorator|exception):: (?:costax\.)?(\w+)$", re.MULTILINE)


def documented() -> Counter[str]:
    """How often each name has a directive of its own."""
    names = Counter(name for page in PAGES.glob("*.md") for name in DIRECTIVE.findall(page.read_text()))
    if "automodule:: costax.errors\n   :members:" in (PAGES / "errors.md").read_text():
        names.update(name for name, value in vars(costax.errors).items() if defined_there(value))
    return names


def defined_there(value: object) -> bool:
    return inspect.isclass(value) and value.__module__ == "costax.errors" and bool(value.__doc__)


def test_every_public_name_has_a_place_in_the_api_pages():
    assert set(costax.__all__) - set(documented()) == set()


def test_the_api_pages_describe_only_public_names():
    errors = {name for name, value in vars(costax.errors).items() if defined_there(value)}
    assert set(documented()) - set(costax.__all__) - errors == set()


def test_no_name_is_described_twice():
    assert [name for name, times in documented().items() if times > 1] == []


def test_every_api_page_is_in_the_table_and_in_the_tree_of_contents():
    index = (PAGES / "index.md").read_text()
    tree = index.partition("```{toctree}")[2]
    pages = {page.stem for page in PAGES.glob("*.md")} - {"index"}
    assert set(re.findall(r"\]\((\w+)\.md\)", index)) == pages
    assert set(re.findall(r"^\w+$", tree, re.MULTILINE)) == pages


def has_members(base: type) -> bool:
    """Whether a class gives others a public name; a base that only prints them does not."""
    return any(not name.startswith("_") and name != "internals" for name in vars(base))


def test_classes_with_a_base_of_costax_show_what_they_inherit():
    pages = "".join(page.read_text() for page in PAGES.glob("*.md"))
    inheriting = {
        name
        for name in costax.__all__
        if inspect.isclass(value := getattr(costax, name))
        and any(has_members(base) for base in value.__mro__[1:] if base.__module__.startswith("costax."))
    }
    assert "Analysis" in inheriting
    shown = set(re.findall(r"autoclass:: (\w+)\n   :members:\n   :inherited-members:", pages))
    assert inheriting - shown == set()


@pytest.mark.parametrize(
    ("page", "kind"),
    [("targets", StageCost), ("prediction", costax.Prediction)],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_the_attributes_that_a_page_lists_exist(page: str, kind: type):
    text = (PAGES.parent / f"{page}.md").read_text()
    table = re.search(rf"^\| attribute of a {kind.__name__} \|.*\n((?:\|.*\n)+)", text, re.MULTILINE)[1]
    names = [name for row in table.splitlines()[1:] for name in re.findall(r"(\w+)(?:\(\))?", row.split("|")[1])]
    known = set(dir(kind)) | set(inspect.signature(kind).parameters)
    assert len(names) > 5
    assert [name for name in names if name not in known] == []


def test_the_common_traits_that_the_guide_lists_exist():
    defined = {name for name, value in vars(traits).items() if isinstance(value, costax.Traits)}
    rows = re.findall(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \|", (PAGES.parent / "rules.md").read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"[A-Z_]+", row)} == defined
    assert set(re.findall(r"``([A-Z_]+)``", (PAGES / "rules.md").read_text())) == defined
