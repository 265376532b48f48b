"""Worked examples of movement: bytes, and no arithmetic."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from costax.rules.examples import case

CASES = (
    case("broadcast_in_dim", lambda x: lax.broadcast_in_dim(x, (5, 4), (1,)), "f32[4]", flops=0, ops=0),
    case("reshape", lambda x: lax.reshape(x, (8, 4)), "f32[4,8]", flops=0, ops=0),
    case("squeeze", lambda x: lax.squeeze(x, (1,)), "f32[4,1,8]", flops=0, ops=0),
    case("transpose", lambda x: lax.transpose(x, (1, 0)), "f32[4,8]", flops=0, ops=0),
    case("rev", lambda x: lax.rev(x, (0,)), "f32[4,8]", flops=0, ops=0),
    case("concatenate", lambda x, y: lax.concatenate([x, y], 0), "f32[4,8]", "f32[2,8]", flops=0, ops=0),
    case("pad", lambda x: lax.pad(x, jnp.float32(0), ((1, 1, 0), (0, 2, 1))), "f32[4,8]", flops=0, ops=0),
    case("split", lambda x: lax.split(x, (3, 5), axis=1), "f32[4,8]", flops=0, ops=0),
    case("iota", lambda: lax.iota("int32", 8), flops=0, ops=0),
    case("copy", lambda x: lax.copy_p.bind(x), "f32[4,8]", flops=0, ops=0),
)
