"""A corpus of real programs: small shapes, abstract arguments, made when they are asked for.

A family is a module of this package. It registers its programs with `@program` (a function and the specs of its
arguments), `one` (the same for an expression) or `@factory` (something to build first). Every check that must hold
for all programs runs over `programs()`.

XLA counts a lowered program as costax does, once loops, padding and integers are charged as XLA charges them, or it
`differs` for a reason that the program names.
"""

from __future__ import annotations

import fnmatch
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

FAMILIES = ("layers", "training", "control", "derivatives", "numerics", "functions", "sharded", "kernels", "libraries")

# A comparison compiles its program. Three programs in ten, these, take two thirds of the time.
LONG_TO_COMPILE = (
    "training/*",
    "libraries/*",
    "kernels/*",
    "control/*gradient*",
    "control/scans_in_*",
    "layers/attention*",
    "layers/sdpa*",
    "derivatives/hessian*",
    "numerics/random_*",
    "numerics/expm",
    "numerics/histogram",
    "numerics/unique",
    "numerics/dropout",
    "functions/*gamma*",
    "functions/betainc",
    "functions/exponential_integral",
    "functions/spence",
    "functions/resize_*",
    "functions/grid_interpolation",
)

# Reasons why XLA's count of the lowered program is not ours.
EXPANDED = "a primitive becomes several HLO operations"
FOLDED = "constants are folded, or an operation with a neutral element is dropped, on the way to HLO"
MERGED = "equal operations are merged on the way to HLO"
LIBRARY = "a library call is reported as -1"
OUTER = "XLA charges an addition for each product of a dot that contracts nothing"
LOWERED = "lowering adds operations: index arithmetic, masks, loop counters"
DENSE = "ragged and batched groups are lowered to a dense product with a mask"
FOURIER = "XLA charges 8 FLOPs for each point and step of a transform, and multiplies the steps of several dimensions"
BRANCHES = "XLA takes the maximum of each property over the branches, costax the costliest branch"
PLATFORM = "what only the branch of another platform needs is left out"
SHARDED = "markers of sharding are reported as -1, and collectives are charged as if two devices took part"


@dataclass(frozen=True)
class Program:
    """A function and its abstract arguments, made by `make()`.

    differs: why XLA counts the lowered program differently; "" where the counts are equal. devices: how many it
    runs on. needs: modules that it imports.
    """

    name: str
    make: Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]
    differs: str = ""
    devices: int = 1
    needs: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Say whether XLA's count of the lowered program is ours."""
        return not self.differs

    @property
    def family(self) -> str:
        """The module that the program stands in."""
        return self.name.split("/")[0]

    @property
    def long_to_compile(self) -> bool:
        """Say whether a comparison of the program takes long."""
        return any(fnmatch.fnmatch(self.name, pattern) for pattern in LONG_TO_COMPILE)

    def __str__(self) -> str:
        """Return the name."""
        return self.name


@functools.cache
def made(program: Program) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return the function and its arguments; the test is skipped where a module is missing that they need."""
    for module in program.needs:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    return program.make()


_REGISTERED: dict[str, Program] = {}


def programs(devices: int = 8) -> Iterator[Program]:
    """Yield every program that needs at most so many devices."""
    for family in FAMILIES:
        import_module(f"{__name__}.{family}")
    yield from (found for found in _REGISTERED.values() if found.devices <= devices)


# On other versions of jax than the newest, the comparison of every fourth program is enough.
EVERY = 4


def parameters(chosen: Iterable[Program], *, compiled: bool = False) -> list[Any]:
    """Return the programs as parameters of a test; if it compiles them, those that take long are marked slow.

    All tests of a program run in one process of pytest-xdist, where they share its analysis or comparison.
    """
    return [pytest.param(each, id=each.name, marks=_marks(i, each, compiled)) for i, each in enumerate(chosen)]


def _marks(number: int, program: Program, compiled: bool) -> list[pytest.MarkDecorator]:
    long, other = compiled and program.long_to_compile, compiled and bool(number % EVERY)
    group = pytest.mark.xdist_group(program.name)
    return [group, *[pytest.mark.slow] * long, *[pytest.mark.once] * other]


def program(*args: Any, differs: str = "", devices: int = 1, needs: str = "") -> Callable[[Any], Any]:
    """Register the decorated function with its arguments: pytrees of specs such as `{"w": "f32[4,8]"}`."""

    def register(fn: Any) -> Any:
        _add(fn.__module__, fn.__name__, lambda: (fn, abstract(args)), differs, devices, needs)
        return fn

    return register


def factory(*, differs: str = "", devices: int = 1, needs: str = "") -> Callable[[Any], Any]:
    """Register what the decorated function returns: a function and its arguments, pytrees of specs or arrays."""

    def register(make: Any) -> Any:
        def made() -> tuple[Any, tuple[Any, ...]]:
            fn, args = make()
            return fn, abstract(args)

        _add(make.__module__, make.__name__, made, differs, devices, needs)
        return make

    return register


def one(name: str, fn: Callable[..., Any], *args: Any, differs: str = "") -> None:
    """Register an expression."""
    # Not `fn.__module__`: the function may be jax's.
    module = inspect.currentframe().f_back.f_globals["__name__"]
    _add(module, name, lambda: (fn, abstract(args)), differs, 1, "")


def _add(module: str, name: str, make: Any, differs: str, devices: int, needs: str) -> None:
    full = f"{module.rsplit('.', 1)[-1]}/{name}"
    if full in _REGISTERED:
        raise ValueError(f"two programs are called {full}")
    _REGISTERED[full] = Program(full, make, differs, devices, tuple(needs.split()))


def abstract(tree: Any) -> Any:
    """Return the pytree with every spec and array replaced by its shape and dtype."""
    import jax

    import costax

    def leaf(x: Any) -> Any:
        if isinstance(x, str):
            return costax.spec(x)
        return x if isinstance(x, jax.ShapeDtypeStruct) else jax.ShapeDtypeStruct(x.shape, x.dtype)

    return jax.tree.map(leaf, tree)
