"""The numbers of other tools and papers for a program, and the reasons for each difference from costax's number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from costax.analysis.counts import Counts
from costax.analysis.other_tools.layers import ATTENTION, CONTRACTIONS, ToolLayer, layers_of
from costax.analysis.other_tools.model_flops import FORMULAS, notes_of, whole_number
from costax.analysis.other_tools.tools import TOOLS, Tool
from costax.analysis.other_tools.transformer_reader import read_transformer
from costax.core.conventions import as_xla
from costax.core.cost import Count
from costax.core.display import Displayed
from costax.errors import InputError
from costax.program.tree import BACKWARD, FORWARD, RECOMPUTE, UPDATE, Node

CONVENTIONS: Final = (*TOOLS, "xla", "megatron", *FORMULAS)


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason for a difference.

    what: the kind of work. count: what the other tool adds, negative for what it leaves out. why: the explanation.
    defect: whether it is a known defect of the tool.
    """

    what: str
    count: Count
    why: str
    defect: bool = False


@dataclass(frozen=True, repr=False)
class Answer(Displayed):
    """The number that another tool would report: `ours + sum(r.count for r in reasons) == count`.

    tool, version: the tool and the version that was tested. unit: of both numbers. ours: the number of costax that is
    closest in meaning. layers: the other tool's number by scope; empty if it uses a formula for the whole program.
    notes: what the number does not know about the program, or assumes.
    """

    tool: str
    version: str
    count: Count
    unit: str
    ours: Count
    reasons: tuple[Reason, ...]
    layers: Mapping[str, Count]
    notes: tuple[str, ...] = ()

    @property
    def defects(self) -> tuple[Reason, ...]:
        """The reasons that are known defects of the tool."""
        return tuple(reason for reason in self.reasons if reason.defect)

    def to_json(self) -> str:
        """Return the answer as JSON."""
        return json.dumps({"schema": "costax/answer/1", **asdict(self), "layers": dict(self.layers)}, indent=1) + "\n"


def described(name: str) -> str:
    """Return what a convention counts and where it is from, for one of `CONVENTIONS`.

    >>> described("palm").partition(";")[0]
    'a convention: model FLOPs of a step, by Chowdhery et al. 2022, appendix B'
    """
    if name in TOOLS:
        what = f"the {TOOLS[name].unit} that {TOOLS[name].version} counts"
    elif name in FORMULAS:
        what = f"model FLOPs of a step, by {FORMULAS[name].source}"
    elif name == "xla":
        what = "the FLOPs of XLA's cost model for the jaxpr: loop bodies once, one device, integers as FLOPs"
    else:
        what = "every matrix product three times, plus recomputation (Narayanan et al. 2021, section 4.1)"
    return f"a convention: {what}; `costax analyze TARGET --as {name}` shows why it differs from costax."


def answer(analysis: Counts, tool: str) -> Answer:
    """Return the number that a tool would report for a program, with the reasons for the difference.

    Raises InputError for an unknown tool, for an analysis from a record, for a program with a backward pass if the tool
    counts forward passes only, or without parameters if the formula needs them.
    """
    if tool not in CONVENTIONS:
        raise InputError(
            f"costax does not know the tool or convention {tool!r}.",
            why="Each tool counts other operations, so costax needs its rules.",
            cure=f"Use one of {', '.join(CONVENTIONS)}.",
        )
    if analysis.tree is None or analysis.program is None:
        raise InputError(
            f"`{analysis.name}` was loaded from a record, but the number of {tool!r} depends on the equations.",
            why="A record has costs by scope and primitive, but no shapes.",
            cure="Analyse the program again: costax.analyze(fn)(*args).as_(...).",
        )
    if tool == "xla":
        return _xla(analysis, analysis.tree)
    if tool in FORMULAS:
        return _model_flops(analysis, tool)
    if tool == "megatron":
        return _megatron(analysis, layers_of(analysis))
    return _counted(analysis, TOOLS[tool], tool, layers_of(analysis))


def _counted(analysis: Counts, tool: Tool, name: str, tool_layers: list[ToolLayer]) -> Answer:
    if not tool.training and {BACKWARD, RECOMPUTE} & set(analysis.by_direction()):
        raise InputError(
            f"{name} counts forward passes only, but `{analysis.name}` has a backward pass.",
            why=f"{name} has no number for a training step.",
            cure=f"Analyse the model alone: costax.analyze(model)(*args).as_({name!r}).",
        )
    if tool.needs_parameters(training=BACKWARD in analysis.by_direction()):
        _need_parameters(analysis, name)
    for layer in tool_layers:
        if tool.does_not_know(layer.kind):
            raise InputError(
                f"The number of {name!r} for the {layer.kind} in {'/'.join(layer.scope) or 'the program'} cannot be "
                "told from the jaxpr.",
                why="The tool counts such a layer as one module, by terms for its gates that were not measured.",
                cure=f"Use another tool for this program, or costax's own count: {analysis.total.macs:,} MACs.",
            )
    ours = tool.mac * analysis.total.macs
    known = sum(layer.count for layer in tool_layers if layer.kind in CONTRACTIONS)
    theirs: dict[str, list[tuple[ToolLayer, Count]]] = {}
    for layer in tool_layers:
        weight = tool.weight(layer.kind)
        count = weight.count(layer) if weight else tool.mac * layer.count if layer.kind in CONTRACTIONS else 0
        theirs.setdefault(layer.kind, []).append((layer, count))
    reasons: list[Reason] = []
    for kind, counted in theirs.items():
        base = sum(tool.mac * layer.count for layer, _ in counted) if kind in CONTRACTIONS else 0
        difference = sum(count for _, count in counted) - base
        weight = tool.weight(kind)
        if difference and weight:
            reasons.append(Reason(kind, difference, weight.why, weight.defect))
    if name == "torch" and BACKWARD in analysis.by_direction():
        recomputed = sum(layer.count for layer in tool_layers if layer.kind == ATTENTION and layer.direction == FORWARD)
        if recomputed:
            why = "the backward pass of torch's fused attention recomputes QK^T"
            reasons.append(Reason("attention, recomputed", recomputed, why))
    unseen = analysis.total.macs - known
    if unseen:
        reasons.append(Reason("other contractions", -tool.mac * unseen, "the tool has no layer or function for them"))
    layers: dict[str, Count] = {}
    for layer, count in (pair for counted in theirs.values() for pair in counted):
        if count:
            scope = "/".join(layer.scope)
            layers[scope] = layers.get(scope, 0) + count
    total = ours + sum(reason.count for reason in reasons)
    return Answer(name, tool.version, total, tool.unit, ours, tuple(reasons), layers)


def _xla(analysis: Counts, tree: Node) -> Answer:
    """Return the count of XLA's rules for the jaxpr: loop bodies once, one device, integers as FLOPs, no padding."""
    ours = analysis.total.flops
    once = tree.where(lambda node: 1 if node.per_device else node.copies if node.loop else node.times)
    loops = once.flops - ours
    by_xla = as_xla(once).flops
    reasons = [
        Reason("loops and devices", loops, "XLA counts a loop body once, and the work of one device"),
        Reason("taps on padding", -2 * once.padding_macs, "XLA leaves them out"),
        Reason(
            "integers, comparisons, selections", by_xla - once.flops + 2 * once.padding_macs, "XLA counts them as FLOPs"
        ),
    ]
    kept = tuple(reason for reason in reasons if reason.count)
    return Answer("xla", "HloCostAnalysis, before any rewriting", by_xla, "FLOPs", ours, kept, {})


def _model_flops(analysis: Counts, name: str) -> Answer:
    """Return the number of a formula for model FLOPs: of a training step, or a third of that of a forward pass."""
    _need_parameters(analysis, name)
    formula, model = FORMULAS[name], read_transformer(analysis)
    passes = 3 if BACKWARD in analysis.by_direction() else 1
    forward = sum(product.macs for product in model.products)
    differences = [
        Reason(part.what, whole_number(2 * passes * part.macs), part.why) for part in formula.differences(model)
    ]
    products = 2 * passes * forward
    reasons = (*_reasons_of_products(analysis, products), *differences)
    count = products + sum(reason.count for reason in differences)
    kept = tuple(reason for reason in reasons if reason.count)
    notes = tuple(notes_of(model, formula))
    return Answer(name, formula.source, count, "FLOPs", analysis.total.flops, kept, {}, notes)


def _need_parameters(analysis: Counts, tool: str) -> None:
    if analysis.params is None:
        raise InputError(
            f"costax was not told which inputs of `{analysis.name}` are parameters.",
            why=f"{tool!r} counts products with parameters, biases and norms in other ways than other arithmetic.",
            cure="Pass params_argnums to costax.analyze or costax.meter: params_argnums=0 if the first argument holds "
            "the parameters, params_argnums=() if there are none.",
        )


def _reasons_of_products(analysis: Counts, products: Count, recomputed_flops: Count = 0) -> tuple[Reason, ...]:
    """Return the reasons that lead from the FLOPs of a program to those of all products of the model, in all passes.

    products: these FLOPs. recomputed_flops: how many of them are recomputed.
    """
    directions = analysis.by_direction()
    recomputed = 2 * directions[RECOMPUTE].macs - recomputed_flops if RECOMPUTE in directions else 0
    update = 2 * directions[UPDATE].macs if UPDATE in directions else 0
    traced = 2 * analysis.total.macs - recomputed - update
    return (
        Reason("elementwise work", 2 * analysis.total.macs - analysis.total.flops, "only matrix products count"),
        Reason("recomputed work", -recomputed, "does not count as work of the model"),
        Reason("optimizer", -update, "does not count as work of the model"),
        Reason("backward pass", products - traced, "counts as twice the forward pass"),
    )


def _megatron(analysis: Counts, layers: list[ToolLayer]) -> Answer:
    """Return Megatron's FLOPs: all matrix products of the forward pass times three, and recomputed ones.

    Source: Narayanan et al. 2021, "Efficient large-scale language model training on GPU clusters", section 4.1.
    """
    passes = 3 if BACKWARD in analysis.by_direction() else 1
    forward = [layer for layer in layers if layer.direction == FORWARD]
    model = passes * 2 * sum(layer.count for layer in forward if layer.kind in CONTRACTIONS)
    recomputed_flops = 2 * analysis.by_direction()[RECOMPUTE].macs if RECOMPUTE in analysis.by_direction() else 0
    products = model + recomputed_flops
    kept = tuple(r for r in _reasons_of_products(analysis, products, recomputed_flops) if r.count)
    return Answer("megatron", "Narayanan et al. 2021, section 4.1", products, "FLOPs", analysis.total.flops, kept, {})
