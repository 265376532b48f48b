"""Worked examples of contractions."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from costax.cases import case

CASES = (
    case("dot_general", lambda a, b: a @ b, "f32[4,8]", "f32[8,3]", macs=4 * 8 * 3, flops=2 * 4 * 8 * 3),
    case("dot_general", lambda a, b: a @ b, "f32[8]", "f32[8]", macs=8, flops=2 * 8),
    case("dot_general", jnp.matmul, "i8[4,8]", "i8[8,3]", macs=4 * 8 * 3, flops=0, ops=2 * 4 * 8 * 3),
    case("dot_general", lambda a, b: lax.batch_matmul(a, b), "f32[5,4,8]", "f32[5,8,3]", macs=5 * 4 * 8 * 3),
)
