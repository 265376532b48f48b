"""What another tool or paper would say of a program, and the way there from our number, line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from costax.analysis.counts import Counts
from costax.analysis.other_tools.layers import ATTENTION, CONTRACTIONS, LINEAR, ToolLayer, parts
from costax.analysis.other_tools.tools import TOOLS, Tool
from costax.core.conventions import as_xla
from costax.core.cost import Count
from costax.core.display import Displayed
from costax.errors import InputError
from costax.program.tree import BACKWARD, FORWARD, RECOMPUTE, UPDATE, Node

_FORMULAS: Final = ("xla", "palm-mfu", "megatron")
CONVENTIONS: Final = (*TOOLS, *_FORMULAS)


@dataclass(frozen=True, slots=True)
class Reason:
    """One line of the way: what the other tool adds or leaves out, why, and whether that is a known defect."""

    what: str
    count: Count
    why: str
    defect: bool = False


@dataclass(frozen=True)
class Answer(Displayed):
    """What another tool would print: `ours + sum(r.count for r in reasons) == count`.

    unit: of both numbers. ours: the nearest of our own figures. layers: the other tool's number by scope; empty for
    what is a formula of the whole program.
    """

    tool: str
    version: str
    count: Count
    unit: str
    ours: Count
    reasons: tuple[Reason, ...]
    layers: Mapping[str, Count]

    @property
    def defects(self) -> tuple[Reason, ...]:
        """The lines that are known defects of the tool."""
        return tuple(reason for reason in self.reasons if reason.defect)

    def to_json(self) -> str:
        """Return the answer as JSON."""
        return json.dumps({"schema": "costax/answer/1", **asdict(self), "layers": dict(self.layers)}, indent=1) + "\n"


def answer(analysis: Counts, tool: str) -> Answer:
    """Return what a tool would print for a program, with the way there from our number.

    Raises InputError for a tool that nobody knows, or one that reads what this analysis does not have.
    """
    if tool not in CONVENTIONS:
        raise InputError(
            f"{tool!r} is no convention that costax knows.",
            why="A convention is what a tool or a paper means by its number.",
            cure=f"Use one of {', '.join(CONVENTIONS)}.",
        )
    if analysis.tree is None or analysis.program is None:
        raise InputError(
            f"`{analysis.name}` comes from a record, and {tool!r} reads the equations.",
            why="A record keeps sums by scope and primitive, not shapes.",
            cure="Analyse the program again: costax.analyze(fn)(*args).as_(...).",
        )
    if tool == "xla":
        return _xla(analysis, analysis.tree)
    found = parts(analysis)
    if tool in _FORMULAS:
        return _palm(analysis, found) if tool == "palm-mfu" else _megatron(analysis, found)
    return _counted(analysis, TOOLS[tool], tool, found)


def _counted(analysis: Counts, tool: Tool, name: str, found: list[ToolLayer]) -> Answer:
    if not tool.training and {BACKWARD, RECOMPUTE} & set(analysis.by_direction()):
        raise InputError(
            f"{name} counts a forward pass, and `{analysis.name}` holds a backward one.",
            why="What it would print for a training step is not defined.",
            cure=f"Analyse the model: costax.analyze(model)(*args).as_({name!r}).",
        )
    ours = tool.mac * analysis.total.macs
    known = sum(part.count for part in found if part.kind in CONTRACTIONS)
    theirs: dict[str, list[tuple[ToolLayer, Count]]] = {}
    for part in found:
        weight = tool.weights.get(part.kind)
        count = weight.count(part) if weight else tool.mac * part.count if part.kind in CONTRACTIONS else 0
        theirs.setdefault(part.kind, []).append((part, count))
    reasons: list[Reason] = []
    for kind, counted in theirs.items():
        base = sum(tool.mac * part.count for part, _ in counted) if kind in CONTRACTIONS else 0
        difference = sum(count for _, count in counted) - base
        if difference:
            weight = tool.weights[kind]
            reasons.append(Reason(kind, difference, weight.why, weight.defect))
    if name == "torch" and BACKWARD in analysis.by_direction():
        again = sum(part.count for part in found if part.kind == ATTENTION and part.direction == FORWARD)
        if again:
            why = "the backward pass of torch's fused attention computes QK^T again"
            reasons.append(Reason("attention, recomputed", again, why))
    unseen = analysis.total.macs - known
    if unseen:
        reasons.append(Reason("other contractions", -tool.mac * unseen, "no layer or function of theirs"))
    layers: dict[str, Count] = {}
    for part, count in (pair for counted in theirs.values() for pair in counted):
        if count:
            scope = "/".join(part.scope)
            layers[scope] = layers.get(scope, 0) + count
    total = ours + sum(reason.count for reason in reasons)
    return Answer(name, tool.version, total, tool.unit, ours, tuple(reasons), layers)


def _xla(analysis: Counts, tree: Node) -> Answer:
    """Return what XLA's laws make of the jaxpr: loop bodies once, one device, integers as FLOPs, no padding."""
    ours = analysis.total.flops
    once = tree.where(lambda node: 1 if node.per_device else node.copies if node.loop else node.times)
    loops = once.flops - ours
    by_law = as_xla(once).flops
    reasons = [
        Reason("loops and devices", loops, "the body of a loop is charged once, and one device's share"),
        Reason("taps on padding", -2 * once.padding_macs, "are left out"),
        Reason("integers, comparisons, selections", by_law - once.flops + 2 * once.padding_macs, "are FLOPs to XLA"),
    ]
    kept = tuple(reason for reason in reasons if reason.count)
    return Answer("xla", "HloCostAnalysis, before any rewriting", by_law, "FLOPs", ours, kept, {})


def _palm(analysis: Counts, found: list[ToolLayer]) -> Answer:
    """Return the model FLOPs of PaLM's MFU: 6 N + 12 L H Q T a token, a third of that without a backward pass.

    Source: Chowdhery et al. 2022, "PaLM", appendix B.
    """
    if analysis.params is None:
        raise InputError(
            f"Nobody said which inputs of `{analysis.name}` are parameters.",
            why="PaLM's formula multiplies their number by the tokens.",
            cure="Pass params_argnums to costax.analyze.",
        )
    passes = 3 if BACKWARD in analysis.by_direction() else 1
    forward = [part for part in found if part.direction == FORWARD]
    tokens = _tokens(forward)
    attention = sum(part.count for part in forward if part.kind == ATTENTION)
    weights, mixing = passes * 2 * analysis.params * tokens, passes * 2 * attention
    return _formula(analysis, "palm-mfu", "Chowdhery et al. 2022, appendix B", weights + mixing, passes, forward)


def _megatron(analysis: Counts, found: list[ToolLayer]) -> Answer:
    """Return Megatron's FLOPs: every matrix product of the forward pass, three times, and what is recomputed.

    Source: Narayanan et al. 2021, "Efficient large-scale language model training on GPU clusters", section 4.1.
    """
    passes = 3 if BACKWARD in analysis.by_direction() else 1
    forward = [part for part in found if part.direction == FORWARD]
    model = passes * 2 * sum(part.count for part in forward if part.kind in CONTRACTIONS)
    again = 2 * analysis.by_direction()[RECOMPUTE].macs if RECOMPUTE in analysis.by_direction() else 0
    return _formula(
        analysis, "megatron", "Narayanan et al. 2021, section 4.1", model + again, passes, forward, again=again
    )


def _formula(
    analysis: Counts, name: str, version: str, count: Count, passes: int, forward: list[ToolLayer], again: Count = 0
) -> Answer:
    directions = analysis.by_direction()
    elementwise = analysis.total.flops - 2 * analysis.total.macs
    recomputed = 2 * directions[RECOMPUTE].macs - again if RECOMPUTE in directions else 0
    update = 2 * directions[UPDATE].macs if UPDATE in directions else 0
    products = passes * 2 * sum(part.count for part in forward if part.kind in CONTRACTIONS) + again
    traced = 2 * analysis.total.macs - recomputed - update
    reasons = (
        Reason("elementwise work", -elementwise, "only products of matrices count"),
        Reason("recomputed work", -recomputed, "is no work of the model"),
        Reason("optimizer", -update, "is no work of the model"),
        Reason("backward pass", products - traced, "is taken to be twice the forward pass"),
        Reason("the formula", count - products, "parameters x tokens stand for the products"),
    )
    kept = tuple(reason for reason in reasons if reason.count)
    return Answer(name, version, count, "FLOPs", analysis.total.flops, kept, {})


def _tokens(forward: list[ToolLayer]) -> Count:
    """Return how many tokens the linear layers see: of most of their weights."""
    seen: dict[Count, Count] = {}
    for part in forward:
        if part.kind == LINEAR and part.weight:
            tokens = part.count // part.weight
            seen[tokens] = seen.get(tokens, 0) + part.weight
    return max(seen, key=lambda tokens: seen[tokens], default=0)
