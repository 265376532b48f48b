"""The shardings of a traced program: how many devices it is for, as the program says it before it is partitioned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, cast

import jax
from jax.extend import core as _extend_core

from costax._jax.jaxprs import opened, operand
from costax.core.equation import Operand


def device_count(traced: Any, jaxpr: Any) -> int:
    """Return the number of devices that the shardings of a program name; 1 without shardings.

    traced: the `Traced`, whose arguments and results may have shardings; None for a bare jaxpr. jaxpr: of the program;
    its equations may have shardings and meshes. All shardings of one program are for the same devices, so the largest
    is that of the program.
    """
    named = [*_of_traced(traced), *_of_equations(jaxpr, set())]
    return max((_size(sharding) for sharding in named), default=1)


def argument_shards(traced: Any) -> tuple[Operand | None, ...]:
    """Return what one device holds of each argument of a traced program; None where no sharding says it.

    The order is that of the leaves. () for a bare jaxpr.
    """
    if traced is None:
        return ()
    metas, chosen = traced._meta_tys_flat, _flat(traced._params.get("in_shardings"))
    return tuple(_shard(meta, sharding) for meta, sharding in zip_longest(metas, chosen))


def result_shards(traced: Any) -> tuple[Operand | None, ...]:
    """Return what one device holds of each result of a traced program; None where `out_shardings` does not say it."""
    if traced is None:
        return ()
    avals, chosen = opened(traced.jaxpr).outvars, _flat(traced._params.get("out_shardings"))
    return tuple(_part(var.aval, sharding) for var, sharding in zip_longest(avals, chosen) if var is not None)


def _shard(meta: Any, sharding: Any) -> Operand | None:
    return _part(meta.aval, sharding if isinstance(sharding, jax.sharding.Sharding) else meta.sharding)


def _part(aval: Any, named: Any) -> Operand | None:
    if not isinstance(named, jax.sharding.Sharding):
        return None
    whole = operand(aval)
    try:
        return Operand(tuple(named.shard_shape(whole.shape)), whole.dtype)
    except ValueError:
        # The devices do not divide the shape, which jax refuses when it lowers the program.
        return None


def _of_traced(traced: Any) -> Iterator[Any]:
    """Yield the shardings of arguments, of results and of the mesh around a program (`jax.set_mesh`)."""
    if traced is None:
        return
    parameters = traced._params
    yield from (meta.sharding for meta in traced._meta_tys_flat)
    for name in ("in_shardings", "out_shardings", "ctx_mesh"):
        yield from _flat(parameters.get(name))


def _of_equations(jaxpr: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the shardings and meshes in the parameters of equations: of constraints, inner `jit`s and `shard_map`s."""
    jaxpr = opened(jaxpr)
    if id(jaxpr) in seen:
        return
    seen.add(id(jaxpr))
    for eqn in jaxpr.eqns:
        for name, parameter in eqn.params.items():
            if name in ("sharding", "dst_sharding", "in_shardings", "out_shardings", "mesh", "devices", "ctx_mesh"):
                yield from _flat(parameter)
            else:
                for inner in _flat(parameter):
                    if isinstance(inner, _extend_core.Jaxpr | _extend_core.ClosedJaxpr):
                        yield from _of_equations(inner, seen)


def _flat(parameter: Any) -> Sequence[Any]:
    return cast("Sequence[Any]", parameter) if isinstance(parameter, tuple | list) else (parameter,)


def _size(sharding: Any) -> int:
    """Return the number of devices of a sharding or a mesh; 1 for anything else, such as an unspecified sharding."""
    if isinstance(sharding, jax.sharding.Sharding):
        return sharding.num_devices
    return sharding.size if isinstance(sharding, jax.sharding.Mesh | jax.sharding.AbstractMesh) else 1
