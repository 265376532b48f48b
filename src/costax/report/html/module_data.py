"""The data of the HTML report of a compiled module: what is executed by layer, opcode and line, predictions, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from costax.core.printable import printable
from costax.errors import CostaxError
from costax.report.hlo_module import gaps
from costax.report.html.sections import LayerTimes, alive, predicted, thinned
from costax.report.tables import short_place

if TYPE_CHECKING:
    from costax.analysis.compiled_module import CompiledModule
    from costax.performance.compiled_kernels import ExecutedInstruction
    from costax.performance.prediction import Prediction

_COLUMNS: Final = (("executed FLOPs", "count"), ("transc.", "count"), ("HBM bytes", "bytes"))
TABLES: Final = ("opcode", "source", "direction", "computation")
_LINES: Final = 200
_ALIVE: Final = 1000

Amounts = tuple[int, int, int]


def contents(module: CompiledModule, prediction: Prediction | None = None) -> dict[str, Any]:
    """Return the data of the page of a module. prediction: shown before those of the common devices."""
    notes = [f"The kernels are {module.kernel_source}.", *gaps(module)]
    devices: dict[str, Any] = {}
    try:
        devices = predicted(module, prediction)
    except CostaxError as error:
        notes.append(f"No prediction: {error.what}")
    columns: list[dict[str, Any]] = [{"name": name, "format": form, "everywhere": True} for name, form in _COLUMNS]
    if devices:
        columns.append({"name": "seconds", "format": "seconds", "everywhere": False, "device": True})
    times = LayerTimes(devices)
    tree = _tree("", _by_layer(module.executed_instructions), {scope: times.of(scope) for scope in times.scopes}, times)
    data: dict[str, Any] = {
        "cards": _cards(module, bool(devices)),
        "notes": notes,
        "columns": columns,
        "trees": {"merged": tree, "full": tree},
        "tables": {by: _table(module, by) for by in TABLES},
        "memory": {"fused": _memory(module)},
    }
    return {**data, "devices": devices, "bounds": times.bounds, "hues": times.hues} if devices else data


def inputs(module: CompiledModule) -> str:
    """Return the arguments of a module as text, the first of them."""
    arguments = module.analysis.inputs
    shown = ", ".join(f"{printable(name)} {operand}" for name, operand in arguments[:6])
    return f"{shown} and {len(arguments) - 6} more" if len(arguments) > 6 else shown


def _cards(module: CompiledModule, timed: bool) -> list[dict[str, Any]]:
    counts, memory = module.compiled_counts(), module.memory
    estimate = ", an estimate" if memory.is_estimate else ""
    labels = (
        ("executed FLOPs", counts["executed_flops"], "count"),
        ("HBM bytes", counts["hbm_bytes"], "bytes"),
        ("sent by collectives", counts["collective_bytes"], "bytes"),
        (f"peak memory{estimate}", memory.needed, "bytes"),
        ("kernels", counts["kernels"], "count"),
    )
    cards: list[dict[str, Any]] = [{"label": x, "amount": n, "format": form} for x, n, form in labels if n]
    if timed:
        cards.insert(1, {"label": "predicted time per call", "format": "seconds", "device": True})
    if not module.exact:
        cards.append({"label": "exact", "value": "no", "exact": " ".join(gaps(module)[:1])})
    return cards


def _amounts(x: ExecutedInstruction) -> Amounts:
    return x.once.flops * x.runs, x.once.transcendentals * x.runs, x.once.bytes * x.runs


def _plus(one: Sequence[Any], other: Sequence[Any]) -> Any:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _by_layer(executed: Sequence[ExecutedInstruction]) -> dict[tuple[str, ...], Amounts]:
    sums: dict[tuple[str, ...], Amounts] = {}
    for x in executed:
        sums[x.scope] = _plus(sums.get(x.scope, (0, 0, 0)), _amounts(x))
    return sums


def _tree(
    name: str,
    layers: Mapping[tuple[str, ...], Amounts],
    seconds: Mapping[tuple[str, ...], list[float]],
    times: LayerTimes,
) -> dict[str, Any]:
    """Return a node of the icicle with its children; see `costax.report.html.data`. layers, seconds: below the node."""

    def entry(name: str, amounts: Amounts, parts: Sequence[float]) -> dict[str, Any]:
        bounds = {"b": times.dominant(parts)} if times.bounds else {}
        return {"n": printable(name), "t": [*amounts, *times.per_device(parts)], **bounds}

    def below(part: Mapping[tuple[str, ...], Any], child: str) -> dict[tuple[str, ...], Any]:
        return {scope[1:]: value for scope, value in part.items() if scope[:1] == (child,)}

    names = dict.fromkeys(scope[0] for part in (layers, seconds) for scope in part if scope)
    children = [_tree(x, below(layers, x), below(seconds, x), times) for x in names]
    own = entry("(own)", layers.get((), (0, 0, 0)), seconds.get((), times.of(("",))))
    amounts: Amounts = (0, 0, 0)
    for each in layers.values():
        amounts = _plus(amounts, each)
    parts = [sum(column) for column in zip(times.of(("",)), *seconds.values(), strict=True)]
    whole = entry(name, amounts, parts)
    if children:
        whole["c"] = [own, *children] if any(own["t"]) else children
    return whole


def _table(module: CompiledModule, by: str) -> list[dict[str, Any]]:
    keys: dict[str, Callable[[ExecutedInstruction], str]] = {
        "opcode": lambda x: x.instruction.custom_call_target or x.instruction.opcode,
        "source": lambda x: short_place(x.source) or "(no source)",
        "direction": lambda x: x.direction or "(no direction)",
        "computation": lambda x: x.computation.name,
    }
    sums: dict[str, Amounts] = {}
    for x in module.executed_instructions:
        name = keys[by](x)
        sums[name] = _plus(sums.get(name, (0, 0, 0)), _amounts(x))
    lines = sorted(sums.items(), key=lambda item: tuple(-n for n in item[1]))
    return [{"n": printable(name), "t": list(amounts)} for name, amounts in lines if any(amounts)][:_LINES]


def _memory(module: CompiledModule) -> dict[str, Any]:
    memory = module.memory
    fixed = memory.needed - memory.temporaries
    scopes = {x.instruction.name: "/".join(x.scope) for x in module.executed_instructions}
    moments = [[i, fixed + m.nbytes, scopes.get(m.name, ""), printable(m.name)] for i, m in enumerate(memory.timeline)]
    return {
        "peak": memory.needed,
        "timeline": thinned(moments),
        "alive": alive(module.live_at_peak(_ALIVE)),
    }
