"""The explanation of a primitive: its rule, the formula in words, and worked examples that are run now."""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import CodeType
from typing import Any

from costax import _jax
from costax._jax.spec import spec
from costax.analysis import glossary
from costax.analysis.analyze import analyze, rules
from costax.core import units
from costax.core.conventions import XlaCounts, as_xla
from costax.core.cost import Cost
from costax.core.display import Printed
from costax.core.listing import shown
from costax.errors import TargetError
from costax.rules.examples import Case, Differs, cases
from costax.rules.registry import Rule


@dataclass(frozen=True, slots=True)
class Example:
    """A worked example, the count of costax and the count of XLA before optimisation."""

    case: Case
    program: str
    cost: Cost
    xla: XlaCounts

    @property
    def agrees(self) -> bool:
        """Whether XLA counts the same as costax under XLA's convention."""
        return as_xla(self.cost) == self.xla

    def __str__(self) -> str:
        """Return the program, its arguments and both counts as text."""
        names = ("macs", "flops", "transcendentals", "ops", "bytes_unfused", "collective_bytes")
        counts = [(name.replace("_", " "), getattr(self.cost, name)) for name in names]
        ours = ", ".join(f"{name} {units.exact(count)}" for name, count in counts if count) or "nothing"
        xla = f"flops {units.exact(self.xla.flops)}, transcendentals {units.exact(self.xla.transcendentals)}"
        relation = "the same" if self.agrees else "differs"
        why = f": {self.case.xla.why}" if isinstance(self.case.xla, Differs) else ""
        lines = [self.program, f"on {' '.join(self.case.args)}", f"costax: {ours}", f"XLA:    {xla} ({relation}{why})"]
        return "\n".join([*lines, self.case.note] if self.case.note else lines)


@dataclass(frozen=True, slots=True, repr=False)
class Explanation(Printed):
    """A rule and its worked examples. `print` shows the page of `costax explain`."""

    rule: Rule
    examples: tuple[Example, ...]

    def __repr__(self) -> str:
        """Return the name of the rule and its first sentence."""
        return f"<costax.Explanation> {self.rule!r}, {len(self.examples)} examples.\nprint() shows the page."


def explain(primitive: str) -> Explanation:
    """Return the rule of a primitive with its worked examples, which are traced, counted and lowered now.

    Args:
        primitive: The name of a primitive.

    Raises TargetError for a primitive without a rule; the message lists primitives and terms with similar names.
    """
    table = rules()
    if primitive not in table:
        # `jnp.einsum` and `jax.numpy.add` name a function of jax, whose last name is often that of the primitive.
        other = glossary.primitive(primitive) or primitive.rpartition(".")[2]
        primitive = other if other in table else primitive
    term = glossary.term(primitive)
    if primitive not in table and term is not None:
        raise TargetError(
            f"{primitive!r} is a word that costax prints, and no primitive.",
            why=f"{term}: {glossary.TERMS[term]}",
            cure="Pass the name of a primitive; `costax explain` takes both.",
        )
    if primitive not in table:
        names = {name.lower(): name for name in (*glossary.SPELLINGS, *glossary.TERMS, *table)}
        close = difflib.get_close_matches(primitive.lower(), names, n=4, cutoff=0.5)
        matches = [names[match] for match in close]
        raise TargetError(
            f"There is no rule for {primitive!r}.",
            why=f"costax has rules for {len(table)} primitives, and explains {len(glossary.TERMS)} terms.",
            cure=f"Did you mean {' or '.join(matches)}?" if matches else "`costax rules` lists them all.",
        )
    return Explanation(table[primitive], shown(tuple(_run(case) for case in cases() if case.primitive == primitive)))


def kind(rule: Rule) -> str:
    """Return the kind of a rule: "leaf", "higher-order" or "free"."""
    return "higher-order" if rule.higher_order else "free" if rule.free else "leaf"


def family(rule: Rule) -> str:
    """Return the name of the file that defines a rule, without path and suffix."""
    return Path(rule.file).stem


def _run(case: Case) -> Example:
    analysis = analyze(case.function)(*(spec(arg) for arg in case.args))
    properties: Mapping[str, float] = _jax.lower(analysis.program.traced, analysis.program.jaxpr).cost_analysis() or {}
    xla = XlaCounts(int(properties.get("flops", 0)), int(properties.get("transcendentals", 0)))
    return Example(case, program_text(case.function), analysis.total, xla)


def program_text(function: Callable[..., Any]) -> str:
    """Return the source text of a function, or the qualified name of a function of jax.

    >>> program_text(lambda x: x + 1)
    'lambda x: x + 1'
    """
    if isinstance(function, partial):
        bound: list[str] = [*map(repr, function.args), *(f"{k}={v!r}" for k, v in function.keywords.items())]
        return f"partial({', '.join([program_text(function.func), *bound])})"
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None or function.__module__.partition(".")[0] == "jax":
        return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"
    if code.co_name == "<lambda>":
        return _lambda_text(code) or "<lambda>"
    return textwrap.dedent(inspect.getsource(function)).strip()


def _lambda_text(code: CodeType) -> str:
    """Return the source text of a lambda. A line may have several lambdas, so the columns decide which one it is."""
    spans = [(line, column) for line, _, column, _ in code.co_positions() if line and column]
    for start, end, text in _lambdas(code.co_filename):
        if spans and all(start <= span <= end for span in spans):
            return textwrap.dedent(text)
    return ""


@cache
def _lambdas(filename: str) -> list[tuple[tuple[int, int], tuple[int, int], str]]:
    """Return (start, end, text) of each lambda of a file; a lambda inside another comes before the outer one."""
    if not Path(filename).is_file():
        return []
    text = Path(filename).read_text(encoding="utf-8")
    return [_placed(text, node) for node in _inner_first(ast.parse(text))]


def _inner_first(tree: ast.AST) -> Iterator[ast.Lambda]:
    for child in ast.iter_child_nodes(tree):
        yield from _inner_first(child)
    if isinstance(tree, ast.Lambda):
        yield tree


def _placed(text: str, node: ast.Lambda) -> tuple[tuple[int, int], tuple[int, int], str]:
    body = node.body
    end = (body.end_lineno or body.lineno, body.end_col_offset or body.col_offset)
    return (body.lineno, body.col_offset), end, ast.get_source_segment(text, node) or ""
