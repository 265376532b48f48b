"""What CONTRIBUTING.md, the architecture page and the tools' files say is so: paths exist, versions agree."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import costax
from costax import report
from costax.compare import causes
from costax.performance.hardware import Device
from costax.rules import traits

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "costax"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
START = (ROOT / "docs" / "start.md").read_text()
README = (ROOT / "README.md").read_text()
NOX = (ROOT / "noxfile.py").read_text()
WORKFLOWS = {path.stem: path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml")}
SESSIONS = set(re.findall(r"^@nox\.session(?:\(.*\))?\n(?:@.*\n(?:    .*\n|\)\n)*)*def (\w+)", NOX, re.MULTILINE))

RECIPES = (
    "Add a primitive",
    "Add an output format",
    "Add a device",
    "Add a cause of a difference",
    "Support a new version of jax",
    "Change or add a compiler's memory model",
    "Add a command",
)


def recipe(title: str) -> str:
    """The text of one recipe."""
    return re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##)", CONTRIBUTING, re.DOTALL | re.MULTILINE)[1]


def paths(text: str) -> list[str]:
    """Paths of the repository; a placeholder such as <family> stands for any name."""
    roots = r"src|docs|tests|examples|benchmarks|changelog\.d|\.github"
    return re.findall(rf"(?<![\w/.])((?:{roots})/[\w./<>+-]*[\w>/])", text)


def exists(path: str) -> bool:
    return any(ROOT.glob(re.sub(r"<[^>]*>", "*", path.rstrip("/"))))


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_names_files_that_exist(title):
    named = paths(recipe(title))
    assert [path for path in named if not exists(path)] == []
    assert any(path.startswith("src/costax/") for path in named)
    assert any(path.startswith("tests/") for path in named)


def test_every_path_in_the_guide_exists():
    # A file that a contributor is asked to make.
    made = {path for path in paths(CONTRIBUTING) if path.startswith("changelog.d/+")}
    named = set(paths(CONTRIBUTING)) - made
    assert len(named) > 20
    assert [path for path in named if not exists(path)] == []


def test_the_files_of_the_memory_model_are_all_named():
    files = {path.name for path in (SOURCE / "performance" / "memory").glob("*.py")} - {"__init__.py"}
    named = set(re.findall(r"^\| `(\w+\.py)` \|", recipe("Change or add a compiler's memory model"), re.MULTILINE))
    assert files == named


def test_the_rule_that_the_guide_shows_is_the_rule_of_costax():
    shown = re.search(r'@cost_rule\("(\w+)", traits=(\w+)\)', recipe("Add a primitive"))
    assert costax.rules()[shown[1]].traits == getattr(traits, shown[2])
    # The constants that the guide compares have the numbers of instructions that it says.
    listed = re.findall(r"`([A-Z_]+)` \((\d+)\)", recipe("Add a primitive"))
    assert len(listed) == 3
    assert {name: getattr(traits, name).operations for name, _ in listed} == {n: int(x) for n, x in listed}


def test_the_vendors_that_the_guide_names_decide_the_kind_of_a_device():
    text = recipe("Add a device")
    kinds = {"TPU": "tpu", "CPU": "cpu"}
    for vendor, kind in re.findall(r'"(\w+)" (?:makes it )?a (\w+)', " ".join(text.split())):
        assert Device("id", "name", vendor).family == kinds.pop(kind)
    assert kinds == {}
    assert Device("id", "name", "any other").family == "gpu"


def table_rows(text: str, head: str) -> list[list[str]]:
    """The cells of a Markdown table, by the start of its first line."""
    rows = re.search(rf"^ *{re.escape(head)}.*\n((?: *\|.*\n)+)", text, re.MULTILINE)[1].splitlines()
    return [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows[1:]]


def test_every_cause_is_explained_once_and_has_a_test():
    constants = {name: value for name, value in vars(causes).items() if name.isupper() and isinstance(value, str)}
    # A difference without a cause; the page describes it in its own paragraph.
    del constants["UNEXPLAINED"]
    listed = [row[0] for row in table_rows((ROOT / "docs" / "comparison.md").read_text(), "| cause |")]
    assert sorted(listed) == sorted(constants.values())
    tested = (ROOT / "tests" / "compare" / "test_causes.py").read_text()
    assert [name for name in constants if not re.search(rf"\bcause\.{name}\b", tested)] == []


def test_the_recipe_for_causes_names_every_file_that_assigns_one():
    folder = SOURCE / "compare"
    names = {name for name, value in vars(causes).items() if name.isupper() and isinstance(value, str)}
    imports = {
        path.name
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "costax.compare.causes"
        if names & {alias.name for alias in node.names}
    }
    rows = table_rows(recipe("Add a cause of a difference"), "| difference |")
    assert {Path(row[1].strip("`")).name for row in rows} == imports


def test_lists_and_tables_of_the_guide_have_a_line_for_each_row():
    # A table that an editor has reflowed is one line with many bars; a list, one line with many bullets.
    for line in CONTRIBUTING.splitlines():
        assert len(line) <= 120, line
        assert "|---|" not in line or set(line.strip()) == {"|", "-"}, line
        assert not re.search(r"[a-z.,;:] \* [\w`]", line), line


def test_the_sessions_that_documents_name_are_sessions_of_nox():
    texts = (CONTRIBUTING, README, *WORKFLOWS.values())
    commands = [words for text in texts for words in re.findall(r"nox -s ([a-z_ ]*[a-z_])", text)]
    named = {word for words in commands for word in words.split()}
    assert {"tests", "lint", "types", "docs"} <= named
    assert named <= SESSIONS


def test_the_workflow_runs_sessions_of_nox_and_three_versions_of_jax():
    listed = re.search(r"session: \[(.*)\]", WORKFLOWS["ci"])[1].split(", ")
    assert {re.match(r"\w+", session)[0] for session in listed} <= SESSIONS
    assert sum(session.startswith("tests(") for session in listed) == 3


def test_the_workflows_have_the_newest_python_of_nox():
    newest = re.search(r'NEWEST_PYTHON = "([\d.]+)"', NOX)[1]
    for workflow in WORKFLOWS.values():
        assert re.search(rf'^\s+(python-version: ")?{newest}"?$', workflow, re.MULTILINE)
    assert f"tests(python-{newest})" in WORKFLOWS["ci"]


def test_every_place_that_names_the_oldest_jax_names_the_same():
    floor = re.search(r'FLOOR = "([\d.]+)"', NOX)[1]
    assert f"jax {floor}, or newer" in START
    assert f"jax {floor} and newer" in (SOURCE / "_jax" / "__init__.py").read_text()
    bounds = re.findall(r"\bjax(?:\[[\w-]+\])?>=([\d.]+)", (ROOT / "pyproject.toml").read_text())
    assert len(bounds) >= 3
    assert set(bounds) == {floor}


def test_tools_are_pinned_and_pre_commit_uses_the_same_versions():
    groups = PROJECT["dependency-groups"]
    pinned = {requirement for group in ("lint", "types") for requirement in groups[group]}
    assert [requirement for requirement in pinned if not re.fullmatch(r"[\w-]+==[\d.]+", requirement)] == []
    hooks = re.findall(r"additional_dependencies: \[(.*)\]", (ROOT / ".pre-commit-config.yaml").read_text())
    assert {requirement for hook in hooks for requirement in hook.split(", ")} == set(groups["lint"])
    assert 'pinned("lint")' in NOX
    assert 'pinned("types")' in NOX


def test_actions_are_pinned_to_a_commit():
    for workflow in WORKFLOWS.values():
        uses = re.findall(r"uses: (\S+)", workflow)
        assert uses
        assert [action for action in uses if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []


def test_the_architecture_page_names_every_package_once():
    entries = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()} | {"errors", "pytest_plugin"}
    assert sorted(re.findall(r"^\| `(\w+)` \|", ARCHITECTURE, re.MULTILINE)) == sorted(entries)
    picture = re.search(r"```text\n(.*?)```", ARCHITECTURE, re.DOTALL)[1]
    assert sorted(picture.split()) == sorted(entries)


def test_every_file_that_the_architecture_page_names_exists():
    named = re.findall(r"`((?:\w+/)+(?:\w+\.py)?|\w+/\w+)`", ARCHITECTURE)
    assert len(named) > 15
    assert [path for path in named if not (SOURCE / path).exists()] == []


def test_the_first_page_of_the_documentation_lists_the_formats_of_an_analysis():
    table = re.search(r"^\| suffix \| format \|\n((?:\|.*\n)+)", START, re.MULTILINE)[1]
    listed = [suffix for row in table.splitlines()[1:] for suffix in re.findall(r"`(\.[\w.]+)`", row.split("|")[1])]
    assert sorted(listed) == sorted(report.FORMATS[name].suffix for name in report.format_names("Analysis"))


def test_the_citation_and_the_changelog_have_the_version_of_the_package():
    version = PROJECT["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version} (" in (ROOT / "CHANGELOG.md").read_text()


def test_fragments_have_a_type_that_the_changelog_knows():
    types = "|".join(kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"])
    names = [path.name for path in (ROOT / "changelog.d").glob("*.md")]
    assert [name for name in names if not re.fullmatch(rf"\+[a-z-]+\.({types})\.md", name)] == []
