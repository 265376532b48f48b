"""The glossary: `costax explain` explains printed terms and finds what people mean; the docs have the same words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.table import Table

import costax
from costax.analysis import growth
from costax.analysis.glossary import ALIASES, SPELLINGS, TERMS, term
from costax.analysis.other_tools.conventions import CONVENTIONS
from costax.cli.app import main
from costax.compare import causes
from costax.compare.passes import PLAIN

PACKAGE = Path(costax.__file__).parent
PAGE = Path(__file__).resolve().parents[2] / "docs" / "glossary.md"
pytestmark = pytest.mark.once


def test_the_page_has_every_term_with_the_same_words():
    written = re.findall(r"^(.+)\n: (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(written) == dict(TERMS)


def test_every_term_is_found_by_its_name():
    assert all(term(name) == name for name in TERMS)
    shown = CliRunner().invoke(main, ["explain", "Framework-peak"]).output
    assert shown == f"framework peak: {TERMS['framework peak']}\n"


def test_the_error_for_a_term_that_is_no_primitive_explains_it():
    with pytest.raises(costax.CostaxError, match=re.escape(TERMS["framework peak"])):
        costax.explain("framework peak")


def test_names_of_operations_find_their_primitive():
    assert set(ALIASES.values()) <= set(costax.rules())
    meant = {"conv": "conv_general_dilated", "attention": "dot_general", "jnp.einsum": "dot_general"}
    for name, primitive in meant.items():
        assert costax.explain(name).rule.name == primitive
    assert costax.explain("jax.numpy.add").rule.name == "add"
    shown = CliRunner().invoke(main, ["explain", "jnp.einsum"]).output
    assert shown.startswith("`jnp.einsum` does its work in the primitive dot_general.")


def test_a_name_that_nothing_has_is_still_an_error():
    assert CliRunner().invoke(main, ["explain", "nothing_like_this"]).exit_code == 2


# Headings that are the plain words of everyone, and those that a user names.
PLAIN_HEADINGS = {"", "time", "size", "number", "name", "value", "why", "device", "figure", "family", "kind", "error"}


def headings_of_the_source() -> set[str]:
    """The literal headings of every table that costax builds: arguments of `add_column` and `columns`, and loops."""
    found: set[str] = set()
    for path in [*(PACKAGE / "report").glob("*.py"), *(PACKAGE / "cli").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("add_column", "columns")):
                found |= literals(node.args[0]) if node.args else set()
            elif isinstance(node, ast.For) and "add_column" in ast.unparse(node.body):
                found |= literals(node.iter)
            # The table of a join is made from a mapping, with more columns for a device.
            elif isinstance(node, ast.FunctionDef) and node.name == "_columns" and path.stem == "join":
                keys = [key for each in ast.walk(node) if isinstance(each, ast.Dict) for key in each.keys if key]
                keys += [each.slice for each in ast.walk(node) if isinstance(each, ast.Subscript)]
                found |= set().union(*map(literals, keys))
    return found


def literals(node: ast.expr) -> set[str]:
    """The headings that an expression names; of a pair of a heading and its total, the heading."""
    if isinstance(node, ast.Constant):
        return {node.value} if isinstance(node.value, str) else set()
    if isinstance(node, ast.IfExp):
        return literals(node.body) | literals(node.orelse)
    if isinstance(node, ast.Tuple) and node.elts:
        pairs = all(isinstance(each, ast.Tuple) for each in node.elts)
        return set().union(*(literals(each.elts[0] if pairs else each) for each in node.elts))
    return set()


@pytest.fixture(scope="module")
def printed_headings(tmp_path_factory) -> set[str]:
    """The headings of the tables that commands print."""
    program = tmp_path_factory.mktemp("glossary") / "program.py"
    program.write_text(
        "import jax, costax\n"
        "def step():\n"
        "    loss = lambda w, x: jax.numpy.tanh(x @ w).sum()\n"
        "    return jax.grad(loss), (costax.spec('f32[8,3]'), costax.spec('f32[4,8]'))\n"
    )
    target = f"{program}:step"
    commands = [
        *(["analyze", target, "--by", by] for by in ("scope", "module", "primitive", "source", "dtype", "direction")),
        ["analyze", target, "--as", "xla"],
        ["predict", target, "--device", "h100"],
        ["memory", target],
        ["mfu", target, "--step", "0.1", "--device", "h100"],
        ["diff", target, target],
        ["devices"],
        ["rules"],
    ]
    found: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        add_column = Table.add_column

        def recorded(self, header="", *args, **keywords):
            found.add(str(header))
            return add_column(self, header, *args, **keywords)

        patch.setattr(Table, "add_column", recorded)
        for command in commands:
            assert CliRunner().invoke(main, command).exit_code == 0, command
    assert {"transc.", "eqns", "% FLOPs", "convention", "bf16"} - found == {"eqns"}
    return found


def test_every_heading_of_a_table_is_explained(printed_headings):
    written = headings_of_the_source()
    assert {"eqns", "transc.", "exposed", "bound by", "alive because", "kernels", "in all", "roofline"} <= written
    headings = (printed_headings | written) - PLAIN_HEADINGS
    assert {heading for heading in headings if term(heading) is None} == set()


def test_every_cause_of_a_difference_is_explained():
    named = {value for name, value in vars(causes).items() if name.isupper() and isinstance(value, str)}
    assert causes.ROUNDING in named
    assert {cause for cause in named if term(cause) is None} == set()


def test_the_words_of_results_are_explained():
    asked = "transc. eqns traffic padding temporaries convention model hardware activations mit jaxpr StableHLO tf32"
    for word in [*asked.split(), "unfused (traffic)", "too close to say", "float32 rounding", "model FLOPs"]:
        shown = CliRunner().invoke(main, ["explain", word])
        assert (shown.exit_code, shown.output) == (0, f"{term(word)}: {TERMS[str(term(word))]}\n"), word
    assert {field for field in growth.Leading._fields if "dominates" in field} <= set(SPELLINGS)


@pytest.mark.parametrize("name", [*PLAIN, *CONVENTIONS])
def test_passes_and_conventions_are_explained(name):
    shown = CliRunner().invoke(main, ["explain", name])
    assert shown.exit_code == 0
    assert shown.output.startswith(f"{name}: a ")
    assert PLAIN.get(name, f"--as {name}") in " ".join(shown.output.split())


def test_no_term_hides_a_primitive():
    words = {*PLAIN, *CONVENTIONS}
    assert {name for name in costax.rules() if term(name) is not None or name in words} == set()
    assert {word for word in words if term(word) is not None} == set()
    assert set(SPELLINGS.values()) <= set(TERMS)


@pytest.mark.parametrize(
    ("typed", "meant"), [("MFUU", "MFU"), ("dot_generals", "dot_general"), ("temporarys", "temporaries")]
)
def test_the_error_for_an_unknown_word_suggests_terms_and_primitives(typed, meant):
    shown = CliRunner().invoke(main, ["explain", typed])
    assert shown.exit_code == 2
    assert re.search(rf"Did you mean .*\b{meant}\b", shown.output)
