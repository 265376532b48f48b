"""XLA itself, asked for the cost of a module, next to costax's replay of the same bytes."""

from __future__ import annotations

from costax import _jax
from costax.hlo import Module, Replay, read_bytes, replay_module

KEYS = ("flops", "transcendentals", "bytes accessed")


def replayed(data: bytes) -> tuple[Replay, dict[str, float]]:
    return replay_module(read_bytes(data)), dict(_jax.xla_cost(data))


def agree(data: bytes) -> Replay:
    """Assert that the replay of a serialised module equals XLA's cost analysis, and that its rows add up."""
    mine, xla = replayed(data)
    same(mine, xla)
    return mine


def same(mine: Replay, xla: dict[str, float]) -> None:
    assert tuple(mine.float32) == tuple(xla.get(key, 0.0) for key in KEYS)
    assert mine.matches(xla)
    rows = [(row.flops, row.transcendentals, row.bytes) for row in mine.instructions]
    assert tuple(mine.total) == tuple(map(sum, zip((0, 0, 0), *rows, strict=True)))


def from_text(text: str) -> bytes:
    return _jax.hlo_from_text(text if text.startswith("HloModule") else f"HloModule m\n{text}")


def one(line: str, *parameters: str, before: str = "") -> bytes:
    """Return a module whose entry holds one instruction over parameters p0, p1 ... of the given shapes."""
    made = "\n".join(f"  p{i} = {shape} parameter({i})" for i, shape in enumerate(parameters))
    return from_text(f"{before}\nENTRY e {{\n{made}\n  ROOT r = {line}\n}}\n")


def module_of(text: str) -> Module:
    return read_bytes(from_text(text))


def reducer(body: str = "add", dtype: str = "f32") -> str:
    return f"""c {{
  ca = {dtype}[] parameter(0)
  cb = {dtype}[] parameter(1)
  ROOT cr = {dtype}[] {body}(ca, cb)
}}
"""
