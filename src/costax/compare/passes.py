"""Passes: what each pass of a compiler did to the cost of a module, read from the modules that XLA dumps.

With `XLA_FLAGS="--xla_dump_to=DIR --xla_dump_hlo_pass_re=.* --xla_dump_hlo_as_proto"` XLA writes a module before
optimisation, after every pass that changed it, and after optimisation. The cost of each is XLA's own, replayed; the
step of a pass is a difference of two modules, so that the steps add up to the whole difference by construction.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from costax.compare.marks import MARK
from costax.core.display import Displayed
from costax.core.progress import stage
from costax.errors import InputError
from costax.hlo.gc_pause import gc_paused
from costax.hlo.metadata import Scopes
from costax.hlo.read import module_of
from costax.hlo.records import Computation, Instruction, Module
from costax.hlo.replay import Properties
from costax.hlo.series import ModuleCost, ModuleSeries, changed_costs, changes

Scope = tuple[str, ...]

_NONE: Final = Properties()
UNNAMED: Final = "(no name of jax)"
"""The scope of instructions that have no name of jax and follow from none that has one."""
_DUMP: Final = re.compile(
    r"(?P<module>.+?)\."
    r"(?:(?P<number>\d{4,})\.(?P<pipeline>.+?)\.after_(?P<name>[^.]+)(?:\.before_[^.]+)?|"
    r"(?P<first>before_optimizations)|(?:\w+_)?(?P<last>after_optimizations))"
    r"\.(?:hlo\.pb|hlo|txt)"
)
# XLA dumps the module where a pipeline begins under this name of a pass.
_START: Final = "pipeline-start"
PLAIN: Final[Mapping[str, str]] = {
    "algsimp": "algebra simplified",
    "async-wrapper": "operations made asynchronous",
    "call-inliner": "calls inlined",
    "constant_folding": "constants folded",
    "cse": "common subexpressions merged",
    "dce": "dead code removed",
    "dot_decomposer": "products brought into a standard form",
    "dot-library-rewriter": "products given to a library",
    "fusion": "operations fused, some of them computed again",
    "gather_expander": "gathers written as loops",
    "layout-assignment": "layouts chosen",
    "multi_output_fusion": "fusions with several results",
    "priority-fusion": "operations fused, some of them computed again",
    "reshape-mover": "reshapes moved",
    "scatter_expander": "scatters written as loops",
    "spmd-partitioning": "split over devices",
    "transpose-folding": "transposes taken into products",
    "tree_reduction_rewriter": "reductions split in two",
    "triton-gemm-rewriter": "products given to Triton",
    "while-loop-invariant-code-motion": "work moved out of loops",
    "zero_sized_hlo_elimination": "empty arrays removed",
}
"""Plain words for the passes of XLA; a pass that is not listed is called by its own name."""


class PassStep(NamedTuple):
    """What one run of a pass did.

    pipeline, name: XLA's own. cost: the change of the total. added, removed, changed: how many instructions with a cost
    are new, gone, or cost another number. scopes: the change by scope, which adds up to `cost`; () is outside of every
    named scope, None is not known.
    """

    pipeline: str
    name: str
    cost: Properties
    added: int
    removed: int
    changed: int
    scopes: Mapping[Scope | None, Properties]

    @property
    def cause(self) -> str:
        """What the pass does, in plain words."""
        return PLAIN.get(self.name, self.name)


@dataclass(frozen=True)
class PassTrail(Displayed):
    """The passes that a module went through, in order; `before.total` and the steps add up to `after`.

    name: of the module. before, after: XLA's count before and after optimisation. versions: how many modules were read.
    modules: of the folder, those that can be chosen.
    """

    name: str
    before: Properties
    after: Properties
    steps: Sequence[PassStep] = field(repr=False)
    versions: int
    modules: tuple[str, ...] = ()

    def by_pass(self) -> dict[str, Properties]:
        """Return the change of each pass, all its runs together, in the order of its first run."""
        return _summed((step.name, step.cost) for step in self.steps)

    def by_scope(self, name: str | None = None, depth: int | None = None) -> dict[str, Properties]:
        """Return the change of each scope, by one pass or by all; it adds up to that of the pass.

        Raises InputError for a pass that is not in the trail.
        """
        names = dict.fromkeys(step.name for step in self.steps)
        if name is not None and name not in names:
            raise InputError(
                f"No pass {name!r} changed the cost of `{self.name}`.",
                why=f"These did: {', '.join(names) or 'none'}.",
                cure="Name one of them, as XLA does.",
            )
        return _summed(
            (UNNAMED if scope is None else "/".join(scope[:depth]), cost)
            for step in self.steps
            if name in (None, step.name)
            for scope, cost in step.scopes.items()
        )

    @property
    def attributed(self) -> float:
        """The share of the changed FLOPs of instructions that have a name of jax, or follow from one that has."""
        scopes = [item for step in self.steps for item in step.scopes.items()]
        whole = sum(abs(cost.flops) for _, cost in scopes)
        return sum(abs(cost.flops) for scope, cost in scopes if scope is not None) / whole if whole else 1.0


@stage("reading passes")
def read_passes(
    folder: str | Path,
    module: str | None = None,
    *,
    scopes_of: Callable[[str], Sequence[Scope]] | None = None,
    tpu: bool = False,
) -> PassTrail:
    """Return what each pass did to a module of a folder that XLA dumped into.

    module: a part of the module's name; without it the module whose dump before optimisation is largest. scopes_of:
    returns the scopes of an instruction from its jax name with marks: one, or one for each call site of the function
    that it stands in. tpu: count as libtpu does. A folder without dumps of passes gives one step, from before to after
    optimisation. Raises InputError for a folder without a module, HloError for a damaged file.
    """
    dumps = _dumps(Path(folder))
    chosen = _chosen(dumps, module, str(folder))
    series, scopes = ModuleSeries(tpu=tpu), _ScopesByName(scopes_of)
    steps: list[PassStep] = []
    first: ModuleCost | None = None
    last: ModuleCost | None = None
    with gc_paused():
        for dump in dumps[chosen]:
            version = series.add(module_of(dump.path))
            if last is None:
                first = version
                scopes.read(version)
            else:
                step = _step(dump, last, version, scopes)
                # A dump where nothing that XLA counts has changed is no step.
                if step.cost != _NONE or step.scopes:
                    steps.append(step)
            last = version
    assert first is not None
    assert last is not None
    return PassTrail(chosen, first.total, last.total, steps, len(dumps[chosen]), tuple(dumps))


class _Dump(NamedTuple):
    order: tuple[int, int]
    path: Path
    pipeline: str
    name: str


def _dumps(folder: Path) -> dict[str, list[_Dump]]:
    """Return the dumps of each module of a folder, in the order in which XLA wrote them."""
    dumps: dict[str, list[_Dump]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        match = _DUMP.fullmatch(path.name)
        if match is None:
            continue
        if match["first"]:
            dump = _Dump((0, 0), path, "", "")
        elif match["last"]:
            dump = _Dump((2, 0), path, "", "after_optimizations")
        else:
            dump = _Dump((1, int(match["number"])), path, match["pipeline"], match["name"])
        dumps[match["module"]].append(dump)
    return {name: sorted(found) for name, found in dumps.items() if len(found) > 1}


def _chosen(dumps: Mapping[str, Sequence[_Dump]], module: str | None, folder: str) -> str:
    if not dumps:
        raise InputError(
            f"{folder!r} holds no module before and after optimisation.",
            why="The passes of a compiler are read from the modules that XLA dumps.",
            cure='Dump them: XLA_FLAGS="--xla_dump_to=DIR --xla_dump_hlo_pass_re=.* --xla_dump_hlo_as_proto".',
        )
    matching = [name for name in dumps if module is None or module in name]
    if not matching:
        raise InputError(
            f"No module of {folder!r} has {module!r} in its name.",
            why=f"These modules can be read: {', '.join(dumps)}.",
            cure="Name one of them, or leave the name out to take the largest.",
        )
    return max(matching, key=lambda name: dumps[name][0].path.stat().st_size)


class _ScopesByName:
    """The scopes of each instruction, by its name, which XLA keeps from pass to pass.

    A new instruction without a jax name belongs where the instruction of which it is a copy belongs (`x.clone.3`), else
    where its first operand with a scope belongs. An instruction of a function with several call sites belongs to all of
    them in equal parts, until the calls are inlined; so it is looked for again in every version.
    """

    def __init__(self, scopes_of: Callable[[str], Sequence[Scope]] | None) -> None:
        self._scopes_of = scopes_of
        self._known: dict[str, Sequence[Scope]] = {}

    def split(self, name: str, cost: Properties) -> Iterator[tuple[Scope | None, Properties]]:
        """Yield the scopes of an instruction with their equal parts of a cost; None for what is not known."""
        scopes = self._known.get(name, ())
        if not scopes or any(count % len(scopes) for count in cost):
            yield None, cost
            return
        part = Properties(*[count // len(scopes) for count in cost])
        yield from ((scope, part) for scope in scopes)

    def read(self, version: ModuleCost) -> None:
        """Take the scopes of the instructions whose one scope is not known yet."""
        computations = {key: costed.computation for key, costed in version.computations.items()}
        *_, entry = computations.values()
        scopes = Scopes(Module(version.name, computations, entry, None))
        for computation in computations.values():
            for ins in computation.instructions:
                if len(self._known.get(ins.name, ())) != 1:
                    self._known[ins.name] = self._scopes(scopes, computation, ins)

    def _scopes(self, scopes: Scopes, computation: Computation, ins: Instruction) -> Sequence[Scope]:
        name = ins.op_name if ins.raw_metadata else ""
        if not name:
            original = re.sub(r"\.(?:clone|remat|\d+).*", "", ins.name)
            candidates = (self._known.get(x) for x in (original, *(operand.name for operand in ins.operands)))
            return next((found for found in candidates if found), ())
        if self._scopes_of is not None and MARK.search(name):
            return self._scopes_of(name)
        return (scopes.of(computation, ins),)


def _step(dump: _Dump, before: ModuleCost, after: ModuleCost, scopes: _ScopesByName) -> PassStep:
    differing = changes(before, after)
    cost = Properties(*[now - then for now, then in zip(after.total, before.total, strict=True)])
    by_scope: dict[Scope | None, Properties] = {}
    # What is gone had the scope of the version before, and what is new has that of the version after.
    gone, came = changed_costs(before, after)
    for side, costs in ((-1, gone), (1, came)):
        if side == 1:
            scopes.read(after)
        for name, change in costs:
            for scope, part in scopes.split(name, change):
                signed = Properties(*[side * count for count in part])
                by_scope[scope] = by_scope.get(scope, _NONE).plus(signed)
    names_before, names_after = before.names(), after.names()
    added = sum(name not in names_before for name in differing)
    removed = sum(name not in names_after for name in differing)
    name = f"start of {dump.pipeline}" if dump.name == _START else dump.name
    rest = len(differing) - added - removed
    kept = {scope: change for scope, change in by_scope.items() if change != _NONE}
    return PassStep(dump.pipeline, name, cost, added, removed, rest, kept)


def _summed(items: Iterator[tuple[str, Properties]]) -> dict[str, Properties]:
    sums: dict[str, Properties] = {}
    for key, cost in items:
        sums[key] = sums.get(key, _NONE).plus(cost)
    return sums
