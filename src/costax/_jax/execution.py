"""Execution of a program: example arguments, the executable, the peak memory of the device, and profiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core as _extend_core

from costax._jax.argument_paths import donated_leaves
from costax._jax.compilation_cache import compiled
from costax._jax.hlo import hlo_of
from costax._jax.jaxprs import opened
from costax.core.interrupts import while_compiling

# Untyped, because jax's annotations are incomplete.
_api: Any = jax


def example_array(aval: Any, seed: int) -> Any:
    """Return an example array of an aval: normal random numbers (floating), zeros (integer, boolean) or PRNG keys."""
    if _api.dtypes.issubdtype(aval.dtype, _api.dtypes.prng_key):
        keys = _api.random.split(_api.random.key(seed, impl=aval.dtype._impl.name), aval.shape)
        return keys if aval.shape else keys.reshape(())
    dtype: Any = aval.dtype
    if _api.numpy.issubdtype(dtype, np.inexact):
        generator: Any = np.random.default_rng(seed)
        real = generator.standard_normal(aval.shape, dtype=np.float32)
        return _api.numpy.asarray(real / 8).astype(dtype)
    return _api.numpy.zeros(aval.shape, dtype)


def avals(jaxpr: Any) -> list[Any]:
    """Return the abstract values of a jaxpr's inputs."""
    return [var.aval for var in opened(jaxpr).invars]


class Executable:
    """A compiled program that takes a flat list of arguments, in the order of the jaxpr's inputs."""

    def __init__(self, traced: Any, jaxpr: Any) -> None:
        """Lower and compile for jax's default device: a `Traced`, or the jaxpr if `traced` is None."""
        if traced is None:
            shapes = [_api.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals(jaxpr)]
            traced = _api.jit(_extend_core.jaxpr_as_fun(jaxpr)).trace(*shapes)
        self._tree = traced._in_tree
        self.donated = donated_leaves(traced)
        lowered = traced.lower()
        with while_compiling():
            self._compiled = compiled(lowered)

    def __call__(self, values: Sequence[Any]) -> Any:
        """Start an execution; it is asynchronous, so the results may not be ready yet."""
        args, kwargs = _api.tree.unflatten(self._tree, values)
        return self._compiled(*args, **kwargs)

    @property
    def hlo(self) -> bytes:
        """The optimised program, as a serialised HloModuleProto."""
        return hlo_of(self._compiled)

    @property
    def arguments(self) -> int:
        """The number of arrays that the program takes."""
        return len(self.donated)


def block_until_ready(value: Any) -> Any:
    """Wait until the arrays of a pytree are computed, and return the pytree."""
    return _api.block_until_ready(value)


def copy_of(value: Any) -> Any:
    """Return a copy of an array; the copy may be donated."""
    return _api.numpy.array(value, copy=True)


def device() -> tuple[str, str]:
    """Return (platform, kind) of jax's default device, such as ("gpu", "NVIDIA H100 80GB HBM3")."""
    first: Any = _api.devices()[0]
    return str(first.platform), str(first.device_kind)


def peak_memory() -> int | None:
    """Return the most bytes that were in use on the default device; None if the backend does not report them."""
    stats: Mapping[str, int] | None = _api.devices()[0].memory_stats()
    peak = None if stats is None else stats.get("peak_bytes_in_use")
    return None if peak is None else int(peak)


def profile(run: Callable[[], object], folder: str) -> None:
    """Run under jax's profiler, which writes its trace into a folder."""
    with _api.profiler.trace(folder):
        run()


def double_precision() -> Any:
    """Return a context in which jax computes with 64-bit numbers where they are asked for."""
    return _api.enable_x64(True)
