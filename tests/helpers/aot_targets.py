"""The machines that the tests compile for, skipped with a reason where their compilers are not installed."""

from __future__ import annotations

import jax
import pytest

import costax
from costax.compare.ahead_of_time.build import missing


def needs(platform: str):
    extra = missing(platform)
    return pytest.mark.skipif(bool(extra), reason=f"{extra or platform} is not installed")


H100 = pytest.param("cuda:h100", marks=needs("cuda"))
V5E = pytest.param("tpu:v5e", marks=needs("tpu"))
BOTH = pytest.mark.parametrize("target", [H100, V5E])


def f32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, "float32")


def is_exact(comparison: costax.Comparison) -> None:
    """Assert that the account adds up to XLA's numbers and that the replay has them bit for bit."""
    assert comparison.lowered.matches_xla
    assert comparison.compiled.matches_xla
    for key in ("flops", "transcendentals"):
        ours = getattr(comparison.jaxpr.total, key)
        assert ours + sum(getattr(delta, key) for delta in comparison.deltas) == comparison.xla[key]
