"""The difference of two analyses, layer by layer and field by field.

Layers are matched by scope path. If each program has a single outermost scope and the two scopes have different
names, the outermost scope is left out of the paths, so that `ResNet18/stem` matches `ResNet50/stem`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, overload

from costax.analysis.analysis import Analysis
from costax.analysis.changes import Change, merged_names
from costax.core.cost import FIELDS, ZERO, Cost, Count
from costax.core.display import Displayed
from costax.core.listing import listed
from costax.core.size import Size
from costax.errors import InputError

if TYPE_CHECKING:
    from costax.analysis.compiled_summary import Summarised
    from costax.analysis.module_diff import ModuleDiff

SIZES: Final[Mapping[str, str]] = {"params": "elements of the parameters", "param_bytes": "bytes of the parameters (B)"}
"""The fields of a layer that do not belong to its cost."""


NO_SIZE: Final = Size()


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the two programs: its scope path, its costs and its parameters; all 0 where it does not exist."""

    scope: str
    before: Cost = ZERO
    after: Cost = ZERO
    params_before: Size = NO_SIZE
    params_after: Size = NO_SIZE

    def change(self, field: str) -> Change:
        """Return the change of a field, one of `costax.core.cost.FIELDS` or `SIZES`."""
        if field in SIZES:
            size_of: Callable[[Size], Count] = (lambda s: s.elements) if field == "params" else (lambda s: s.nbytes)
            return Change(size_of(self.params_before), size_of(self.params_after))
        return Change(getattr(self.before, field), getattr(self.after, field))

    @property
    def changed(self) -> bool:
        """Whether the cost or the parameters differ."""
        return self.before != self.after or self.params_before != self.params_after


@dataclass(frozen=True, repr=False)
class Diff(Displayed):
    """Two analyses compared layer by layer.

    The layers of any depth sum to the totals, in every field: work outside of all scopes belongs to the layer "".
    """

    before: Analysis
    after: Analysis

    @property
    def total(self) -> Layer:
        """The whole programs as one layer."""
        return Layer("total", self.before.total, self.after.total, _params(self.before), _params(self.after))

    @listed
    def layers(self, depth: int | None = None) -> list[Layer]:
        """Return the layers of both programs in program order, with paths of at most `depth` parts.

        Args:
            depth: Levels of scopes; by default all.
        """
        first, second = self._paths
        costs = [_costs(a, cut, depth) for a, cut in ((self.before, first), (self.after, second))]
        sizes = [_sizes(a, cut, depth) for a, cut in ((self.before, first), (self.after, second))]
        scopes = merged_names([*costs[0], *sizes[0]], [*costs[1], *sizes[1]])
        return [
            Layer(s, costs[0].get(s, ZERO), costs[1].get(s, ZERO), sizes[0].get(s, NO_SIZE), sizes[1].get(s, NO_SIZE))
            for s in scopes
        ]

    @cached_property
    def _paths(self) -> tuple[int, int]:
        """How many leading parts each program's paths lose: 1 if the only outermost scopes have different names."""
        roots = [{row.scope[:1] for row in a.rows} - {()} for a in (self.before, self.after)]
        single = all(len(names) == 1 for names in roots) and roots[0] != roots[1]
        return (1, 1) if single else (0, 0)


@overload
def diff(before: Summarised, after: Summarised) -> ModuleDiff: ...
@overload
def diff(before: Analysis, after: Analysis) -> Diff: ...
def diff(before: Analysis | Summarised, after: Analysis | Summarised) -> Diff | ModuleDiff:
    """Return the difference of two analyses, or of two compiled programs, layer by layer.

    Args:
        before: The analysis from which the changes are counted; or the module, or the comparison, whose compiled
            program then counts.
        after: The other one.

    Raises InputError for a program and a module, whose counts have other meanings, and for a value without counts.
    """
    from costax.analysis.module_diff import ModuleDiff

    for value in (before, after):
        _check_counted(value)

    if isinstance(before, Analysis) and isinstance(after, Analysis):
        return Diff(before, after)
    if not isinstance(before, Analysis) and not isinstance(after, Analysis):
        return ModuleDiff(before, after)
    names = (before.name, after.name) if isinstance(after, Analysis) else (after.name, before.name)
    raise InputError(
        f"`{names[0]}` is a module and `{names[1]}` is a program.",
        why="A program has the work that it asks for, and a module what the compiler made of it: they do not compare.",
        cure="Pass two modules or two programs, or a module and a comparison, costax.compare(fn)(*args), which has the "
        "compiled program.",
    )


def _check_counted(value: object) -> None:
    """Raise InputError for a value that is neither an analysis nor a compiled program, such as a model itself."""
    # The summary of a compiled program is a property. A model may have a method of that name.
    summary = getattr(type(value), "summary", None)
    if isinstance(value, Analysis) or (summary is not None and not callable(summary)):
        return
    raise InputError(
        f"costax.diff compares analyses, got a value of type {type(value).__name__}.",
        why="The counts of a program depend on the shapes of its arguments, which only its analysis has.",
        cure='Pass two analyses: costax.diff(costax.analyze(one)("f32[8,128]"), costax.analyze(other)("f32[8,128]")).',
    )


def fields() -> tuple[str, ...]:
    """Return the names of the fields of a layer."""
    return (*FIELDS, *SIZES)


def _params(analysis: Analysis) -> Size:
    return sum((analysis.parameters or {}).values(), Size())


def _costs(analysis: Analysis, cut: int, depth: int | None) -> dict[str, Cost]:
    parts: dict[str, list[Cost]] = {}
    for row, cost in analysis.rows.items():
        parts.setdefault("/".join(row.scope[cut:][:depth]), []).append(cost)
    return {scope: Cost.sum(costs) for scope, costs in parts.items()}


def _sizes(analysis: Analysis, cut: int, depth: int | None) -> dict[str, Size]:
    sizes: dict[str, Size] = {}
    for (scope, _), size in (analysis.parameters or {}).items():
        key = "/".join(scope[cut:][:depth])
        sizes[key] = sizes.get(key, Size()) + size
    return sizes
