"""The memory of a compiled module: bytes by kind of buffer, the largest buffers alive at the peak, bytes by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Group

from costax.core import units
from costax.core.printable import printable
from costax.report.tables import short_place
from costax.report.text import columns, one_line

if TYPE_CHECKING:
    from costax.analysis.compiled_module import CompiledModule

SCHEMA: Final = "costax/module-memory/1"
_LINES: Final = 15


def render(module: CompiledModule, *, most: int = 10, depth: int | None = None) -> Group:
    """Return what rich prints. most: the number of buffers. depth: the levels of scopes of the table by layer."""
    memory = module.memory
    exact, short = units.exact, units.short_bytes
    lines = [("peak", short(memory.needed), f"{exact(memory.needed)} B")]
    lines += [(name, short(size), f"{exact(size)} B") for name, size in memory.parts.items() if size]
    if memory.aliased:
        note = f"{exact(memory.aliased)} B of results in the buffers of donated arguments"
        lines.append(("aliased", short(memory.aliased), note))
    if memory.padding is not None and not memory.is_estimate:
        lines.append(("padding", short(memory.padding), "of the temporaries: alignment and fragmentation"))
    if memory.allocations is not None:
        lines.append(("allocations", exact(memory.allocations), ""))
    by_layer = sorted(module.live_by_scope(depth).items(), key=lambda item: -item[1])
    layers = [(short(size), printable(scope) or "(no scope)") for scope, size in by_layer[:_LINES]]
    if others := by_layer[_LINES:]:
        layers.append((short(sum(size for _, size in others)), f"{len(others)} other scopes"))
    # The lines add up to the peak.
    if memory.unnamed > 0:
        layers.append((short(memory.unnamed), "(the rest: padding, and memory without a named value)"))
    elif memory.unnamed < 0:
        layers.append((f"-{short(-memory.unnamed)}", "(memory that some of these values share)"))
    buffers = [
        (
            short(b.nbytes),
            f"{b.dtype}[{','.join(map(str, b.shape))}]",
            b.primitive,
            printable(b.scope),
            printable(short_place(b.source) if ":" in b.source else b.source),
            printable(b.why),
        )
        for b in module.live_at_peak(most)
    ]
    parts: list[Any] = [
        one_line(module.name, style="bold"),
        one_line(f"Memory of {module.extent}, by {memory.source}."),
        columns(("", "", ""), lines),
        one_line("Alive at the peak, by layer", style="bold"),
        columns(("size", "scope"), layers),
        one_line(f"The largest buffers at the peak, {len(buffers)} of {len(memory.alive)}", style="bold"),
        columns(("size", "array", "opcode", "scope", "source", "alive because"), buffers),
    ]
    if memory.alive_source:
        parts.append(one_line(f"What is alive at the peak is by {memory.alive_source}."))
    return Group(*parts)


def to_record(module: CompiledModule, most: int | None = None) -> dict[str, Any]:
    """Return the memory as a dictionary for JSON."""
    memory = module.memory
    return {
        "schema": SCHEMA,
        "name": module.name,
        "source": memory.source,
        "is_estimate": memory.is_estimate,
        "peak_bytes": memory.needed,
        "bytes_by_kind": dict(memory.parts),
        "aliased_bytes": memory.aliased,
        "padding_bytes": memory.padding,
        "allocations": memory.allocations,
        "alive_source": memory.alive_source or memory.source,
        # With the sum of `live_by_scope` these are the bytes at the peak.
        "unnamed_bytes": memory.unnamed,
        "live_by_scope": module.live_by_scope(),
        "live_by_source": module.live_by_source(),
        "live_at_peak": [
            {
                "bytes": b.nbytes,
                "dtype": b.dtype,
                "shape": list(b.shape),
                "opcode": b.primitive,
                "scope": b.scope,
                "source": b.source,
                "why": b.why,
            }
            for b in module.live_at_peak(most)
        ],
    }
