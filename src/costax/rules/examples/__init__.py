"""Worked examples: for each primitive a small program, its cost, and how XLA counts it.

`costax explain` and the rule pages show them; the tests compare each with the count of costax and with that of XLA.
The numbers are written as formulas of the shapes, so that a reader sees where they come from.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from costax.core.cost import Count


@dataclass(frozen=True, slots=True)
class Differs:
    """XLA's count of the lowered program where it differs from that of costax, and why. None: the same number."""

    why: str
    flops: Count | None = None
    transcendentals: Count | None = None


@dataclass(frozen=True, slots=True)
class Same:
    """XLA counts the same for the lowered program: 2 FLOPs a valid MAC, 1 for every other operation of any dtype."""


SAME = Same()


def differs(why: str, *, flops: Count | None = None, transcendentals: Count | None = None) -> Differs:
    """Return the reason why XLA's count of the lowered program differs, and its numbers; one left out is the same."""
    return Differs(why, flops, transcendentals)


def since(counts: Mapping[tuple[int, ...], Count]) -> Count:
    """Return the count of the installed jax, by the versions in which it changed: `since({(0,): 20, (0, 12): 60})`."""
    from costax import _jax

    return counts[max(version for version in counts if version <= _jax.VERSION)]


@dataclass(frozen=True, slots=True)
class Case:
    """A program that uses one primitive, its arguments as specs (`f32[4,8]`), and its counts.

    Counts that are None are not compared. `macs`, `flops`, `transcendentals` and `ops` are the properties of `Cost`.
    """

    primitive: str
    function: Callable[..., Any]
    args: tuple[str, ...]
    macs: Count = 0
    flops: Count | None = None
    transcendentals: Count = 0
    ops: Count | None = None
    xla: Same | Differs = SAME
    note: str = ""

    @property
    def source(self) -> str:
        """The source code of the program."""
        return inspect.getsource(self.function).strip().rstrip(",")


def case(primitive: str, function: Callable[..., Any], *args: str, **counts: Any) -> Case:
    """Return a Case: `case("dot_general", lambda a, b: a @ b, "f32[4,8]", "f32[8,3]", macs=4 * 8 * 3)`."""
    return Case(primitive, function, args, **counts)


def cases() -> tuple[Case, ...]:
    """Return the worked examples of every module of this package, one module for each family. Imports jax."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(example for name in names for example in import_module(f"{__name__}.{name}").CASES)
