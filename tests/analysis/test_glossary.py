"""The glossary: `costax explain` explains printed terms and finds what people mean; the docs have the same words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import costax
from costax.analysis.glossary import ALIASES, TERMS, term
from costax.cli.app import main

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
