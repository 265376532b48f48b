"""torchax, which runs torch's operations on JAX arrays: its import, and the environment in which costax traces.

torchax is imported only for a target of torch. Its import changes settings of torch; those that change the results of
the user's own program are restored.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any, Final

import jax
import jax.numpy as jnp

from costax.errors import TargetError, install_command
from costax.program.frameworks.kinds import performed

# Untyped, because the annotations of jax are incomplete.
_numpy: Any = jnp
_LOCK: Final = threading.Lock()


def load() -> ModuleType:
    """Import torchax and return it. Raises TargetError if it is absent or does not fit the installed torch."""
    torch = sys.modules["torch"]
    if sys.modules.get("torchax") is not None:
        return sys.modules["torchax"]
    # torchax switches off the fused kernels of attention modules for the whole process; a trace does so on its own.
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        with _removed_overloads(torch):
            torchax = import_module("torchax")
            # The first environment imports the tables of operations.
            torchax.default_env()
            return torchax
    except ModuleNotFoundError as error:
        raise TargetError(
            f"The target is a program of torch, but the package {error.name} is not installed.",
            why="costax traces torch programs with torchax, which runs torch's operations on JAX arrays.",
            cure=f"Install versions that work together: {install_command('torch')}",
        ) from error
    except Exception as error:
        raise TargetError(
            f"torchax {version('torchax')} cannot be imported with torch {torch.__version__}: {error}",
            why="costax traces torch programs with torchax, which runs torch's operations on JAX arrays.",
            cure=f"Install versions that work together: {install_command('torch')}",
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def prepare() -> None:
    """Make the environment of this thread outside of a trace, because torchax computes a random key for it.

    Raises TargetError if torchax is absent or does not fit the installed torch.
    """
    load()
    assert environment()._property.content is not None


@contextmanager
def _removed_overloads(torch: Any) -> Generator[None]:
    """Return a context in which overloads for named tensors exist by name, although torch 2.13 removed them.

    torchax 0.0.13 lists them in tables of operations; a table with a name that no operation has is harmless.
    """
    packet = torch._ops.OpOverloadPacket
    if hasattr(torch.ops.aten.prod, "dim_Dimname"):
        yield
        return
    original = packet.__getattr__

    def overload(self: Any, name: str) -> Any:
        try:
            return original(self, name)
        except AttributeError:
            if name.startswith("__") or "name" not in name.lower():
                raise
            return f"{self}.{name}"

    packet.__getattr__ = overload
    try:
        yield
    finally:
        packet.__getattr__ = original


@cache
def environment() -> Any:
    """Return the environment of torchax in which costax traces.

    A tensor that the program itself creates on the CPU and combines with a tensor of the environment is a constant.
    """
    tensors: Any = import_module("torchax.tensor")
    torch: Any = sys.modules["torch"]
    tree = torch.utils._pytree
    base: Any = tensors.Environment

    def constant(value: Any) -> Any:
        # torchax itself reads the value of a scalar, which a meta tensor does not have.
        if isinstance(value, (tensors.Tensor, tensors.View)) or (value.numel() == 1 and value.device.type != "meta"):
            return value
        with torch.utils._mode_utils.no_dispatch(), torch._C.DisableTorchFunction():
            if value.device.type == "meta":
                array = _numpy.zeros(value.shape, dtype_of(value))
            else:
                array = sys.modules["torchax.ops.mappings"].t2j(value.detach(), False)
        return tensors.Tensor(array, environment())

    class Environment(base):
        def t2j_iso(self, torchtensors: Any) -> Any:
            return base.t2j_iso(self, tree.tree_map_only(torch.Tensor, constant, torchtensors))

    return Environment()


def dtype_of(tensor: Any) -> Any:
    """Return the dtype of jax for a tensor of torch; without `jax_enable_x64`, 64 bits become 32, as in torchax."""
    return jax.dtypes.canonicalize_dtype(import_module("torchax.ops.mappings").t2j_dtype(tensor.dtype))


@contextmanager
def entered() -> Generator[Any]:
    """Return a context in which torch's operations run on JAX arrays."""
    torch = sys.modules["torch"]
    env = environment()
    fused, random = torch.backends.mha.get_fastpath_enabled(), env._property.content
    torch.backends.mha.set_fastpath_enabled(False)
    env._property.content = _random_state()
    try:
        with env:
            yield env
    finally:
        env._property.content = random
        torch.backends.mha.set_fastpath_enabled(fused)


def _random_state() -> Any:
    """Return the state of an environment whose key of random numbers becomes part of the program at its first use."""
    tensors: Any = import_module("torchax.tensor")

    class RandomState(tensors.RuntimeProperty):
        @property
        def prng(self) -> Any:
            self._key = jax.random.key(0) if self._key is None else self._key
            return self._key

        @prng.setter
        def prng(self, key: Any) -> None:
            self._key = key

    return RandomState(mesh=None, prng=None, autocast_dtype=None)


class _Threads(threading.local):
    """Whether this thread is in a context without scopes of operations."""

    quiet: bool = False


class _Jax:
    """The module jax as torchax sees it: in some threads `jax.named_scope` only records the name of an operation."""

    def __getattr__(self, name: str) -> Any:
        return getattr(jax, name)

    @contextmanager
    def named_scope(self, name: str) -> Generator[None]:
        if _THREADS.quiet:
            performed(name)
            yield
        else:
            with jax.named_scope(name):
                yield


_THREADS: Final = _Threads()
_USERS: Final[list[object]] = []


@contextmanager
def without_operation_scopes() -> Generator[None]:
    """Return a context without the scope that torchax adds for each operation, such as `aten::convolution`.

    The paths of modules are the scopes. The random state of torchax is the same before and after.
    """
    torchax = load()
    tensors: Any = sys.modules["torchax.tensor"]
    user = object()
    with _LOCK:
        _USERS.append(user)
        tensors.jax = _JAX
    outer, _THREADS.quiet = _THREADS.quiet, True
    try:
        with torchax.default_env().override_property():
            yield
    finally:
        _THREADS.quiet = outer
        with _LOCK:
            _USERS.remove(user)
            if not _USERS:
                tensors.jax = jax


_JAX: Final = _Jax()
