"""What every page of the documentation keeps to: names explained, examples that run and show numbers, true installs."""

from __future__ import annotations

import doctest
import functools
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import costax
from costax.core.display import Displayed

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
WRITTEN = [path for path in sorted(DOCS.rglob("*.md")) if "generated" not in path.parts and "_build" not in path.parts]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *WRITTEN)}


@functools.cache
def of_docs(name: str):
    """A module of the folder docs."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public_functions():
    """Every public function, and every public method of a public class, with its name."""
    for name in costax.__all__:
        value = getattr(costax, name)
        if not inspect.isclass(value):
            yield name, value
            continue
        hidden = getattr(value, "internals", frozenset())
        for method, member in inspect.getmembers(value):
            is_function = inspect.isfunction(member) or inspect.ismethod(member)
            if is_function and not method.startswith("_") and method not in hidden:
                yield f"{name}.{method}", member


def unlisted(function) -> set[str]:
    """The parameters that the docstring of a function has no line for."""
    text = (inspect.getdoc(function) or "").partition("Args:\n")[2]
    names = set(inspect.signature(function).parameters) - {"self", "cls", "_"}
    return {name for name in names if not re.search(rf"^ +(?:\w+, )*{name}(?:, \w+)*: ", text, re.MULTILINE)}


def test_every_public_function_and_method_lists_its_parameters():
    # The former name of another method.
    old = {"Polynomial.over"}
    missing = {name: unlisted(function) for name, function in public_functions() if name not in old}
    assert {name: parameters for name, parameters in missing.items() if parameters} == {}


def test_a_parameter_without_a_line_is_found():
    def function(one, two):
        """Return one.

        Args:
            one: The first.
        """

    assert unlisted(function) == {"two"}


def test_every_class_that_users_construct_lists_what_it_takes():
    classes = [value for name in costax.__all__ if inspect.isclass(value := getattr(costax, name))]
    constructed = [cls for cls in classes if not issubclass(cls, Displayed)]
    split, fields = of_docs("docstrings").split, of_docs("docstrings").fields
    missing = {}
    for cls in constructed:
        if issubclass(cls, Exception | Warning) or cls in (costax.Reading, costax.Meter, costax.Polynomial):
            continue  # costax makes them
        listed = split(inspect.getdoc(cls), fields(cls))[1]
        text = (inspect.getdoc(cls) or "").partition("Args:\n")[2]
        names = [name for name in inspect.signature(cls).parameters if name not in listed]
        missing[cls.__name__] = [name for name in names if not re.search(rf"^ +{name}: ", text, re.MULTILINE)]
    assert {"Budget", "Target", "Body", "Traits", "Operand", "Equation"} <= set(missing)
    assert {name: names for name, names in missing.items() if names} == {}


@pytest.mark.parametrize("name", ["docstrings", "pages"])
def test_the_examples_of_the_modules_that_make_pages_run(name):
    tried = doctest.testmod(of_docs(name))
    assert tried.attempted > 0
    assert tried.failed == 0


def test_what_public_names_return_has_a_page():
    names = {cls.__name__ for cls in of_docs("pages").returned()}
    assert {"Buffer", "Collective", "Energy", "Kernel", "ModuleDiff", "Node", "Rule"} <= names
    assert {cls.__name__ for cls in of_docs("pages").returned() if not inspect.getdoc(cls)} == set()
    assert names & set(costax.__all__) == set()


def test_the_page_of_the_command_line_has_every_command_and_option():
    from costax.cli.app import main

    page = "\n".join(of_docs("pages").commands())
    for name, command in main.commands.items():
        section = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)[1]
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        assert {option for option in options - {"--debug"} if option not in section} == set()


def test_no_example_is_skipped_and_none_shows_a_bare_true():
    for name, text in PAGES.items():
        assert "+SKIP" not in text, name
        for block in re.findall(r"^```\{doctest\}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            assert not re.search(r"^(?:True|\((?:True, )*True\))$", block, re.MULTILINE), f"{name}\n{block}"


def test_every_page_is_in_the_table_of_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8") + "\n".join(of_docs("pages").contents())
    listed = re.findall(r"^/?([\w/-]+)$", index, re.MULTILINE)
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in WRITTEN if path.parent != DOCS / "api"}
    assert pages - {"index"} <= set(listed)
    assert len(listed) == len(set(listed))


def test_the_index_leads_to_every_recipe():
    recipes = re.findall(r"^## (.+)$", (DOCS / "guides" / "recipes.md").read_text(encoding="utf-8"), re.MULTILINE)
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    anchors = [re.sub(r"[^\w ]", "", title).lower().replace(" ", "-") for title in recipes]
    assert len(anchors) == 12
    assert [anchor for anchor in anchors if f"guides/recipes.md#{anchor}" not in index] == []


def test_every_example_of_the_gallery_draws_its_thumbnail():
    texts = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "gallery").glob("plot_*.py")}
    assert len(texts) > 3
    assert [name for name, text in texts.items() if "plt.subplots" not in text] == []


def test_no_page_asks_for_costax_from_an_index():
    # An extra of the installed package is not looked for on an index: the test below.
    texts = {**PAGES, **{str(path): path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")}}
    wrong = r"pip install (?:--upgrade )?costax\b|pip install --upgrade '?costax"
    assert {name: re.findall(wrong, text) for name, text in texts.items() if re.search(wrong, text)} == {}


@pytest.mark.slow
def test_pip_takes_the_installed_costax_for_an_extra():
    if importlib.util.find_spec("pip") is None or importlib.util.find_spec("plotly") is None:
        pytest.skip("this environment has no pip, or not the extra")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "costax[html]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Requirement already satisfied: costax[html]" in done.stdout


def built(functions, without=None):
    """Pages as Sphinx builds them, with an entry for each function."""
    return "".join(
        f'<dt class="sig sig-object py" id="{places[0]}"><em>f</em></dt><dd><ul>'
        + "".join(f"<li><strong>{name}</strong></li>" for name in inspect.signature(function).parameters)
        + "</ul></dd>\n"
        for places, function in functions
        if places[0] != without
    )


def test_the_build_notices_a_function_that_is_built_without_its_parameters():
    docstrings = of_docs("docstrings")
    functions = list(docstrings.public_functions())
    names = {places[0] for places, _ in functions}
    assert {"costax.analyze", "costax.Analysis.by_scope", "costax.Prediction.by_scope", "costax.Meter.tick"} <= names
    assert docstrings.undescribed(built(functions)) == {}
    assert docstrings.undescribed(built(functions, without="costax.Meter.tick")) == {"costax.Meter.tick": [""]}
    lost = docstrings.undescribed(built(functions).replace("<strong>tokens</strong>", "tokens"))
    assert lost["costax.Meter.tick"] == ["tokens"]
