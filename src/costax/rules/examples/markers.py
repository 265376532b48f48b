"""Worked examples of identities, references and callbacks."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import io_callback

from costax.rules.examples import case, differs

CASES = (
    case("name", lambda x: checkpoint_name(x, "hidden"), "f32[4,8]", flops=0, ops=0),
    case("optimization_barrier", lambda x: lax.optimization_barrier(x), "f32[4,8]", flops=0, ops=0),
    case("stop_gradient", lambda x: lax.stop_gradient(x), "f32[4,8]", flops=0, ops=0),
    case(
        "pure_callback",
        lambda x: jax.pure_callback(lambda y: y, jax.ShapeDtypeStruct((4, 8), "float32"), x),
        "f32[4,8]",
        flops=0,
        ops=0,
        xla=differs("a custom call", flops=-1),
        note="the work of Python on the host is not part of the program; the call is listed as uncounted",
    ),
    case(
        "io_callback",
        lambda x: io_callback(lambda y: y, jax.ShapeDtypeStruct((4, 8), "float32"), x),
        "f32[4,8]",
        flops=0,
        ops=0,
        xla=differs("a custom call", flops=-1),
        note="the work of Python on the host is not part of the program; the call is listed as uncounted",
    ),
)
