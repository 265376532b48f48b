"""Passes: what each pass of a compiler did to the cost of a module, read from the modules that XLA dumps.

With `XLA_FLAGS="--xla_dump_to=DIR --xla_dump_hlo_pass_re=.* --xla_dump_hlo_as_proto"` XLA writes a module before
optimisation, after every pass that changed it, and after optimisation. The cost of each is XLA's own, replayed; the
step of a pass is a difference of two modules, so that the steps add up to the whole difference by construction.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from costax.compare.integrity import Integrity
from costax.compare.lineage import Lineage
from costax.compare.owners import Caller, Owner, Owners, OwnersByName, callers, costs_by_owner
from costax.compare.place import Place
from costax.core.display import Displayed
from costax.core.listing import listed, shown
from costax.core.progress import stage
from costax.errors import InputError
from costax.hlo.files import module_of
from costax.hlo.gc_pause import gc_paused
from costax.hlo.replay import Properties
from costax.hlo.series import CostedComputation, ModuleCost, ModuleSeries
from costax.program.tree import Scope

_Key = TypeVar("_Key")

_NONE: Final = Properties()
_NO_COSTS: Final[Mapping[str, Properties]] = {}
UNNAMED: Final = "(no name of jax)"
"""The scope of instructions that have no name of jax and follow from none that has one."""
NO_SCOPE: Final = "(no scope)"
"""How the scope of operations outside of every named scope is written."""
_DUMP: Final = re.compile(
    r"(?P<module>.+?)\."
    r"(?:(?P<number>\d{4,})\.(?P<pipeline>.+?)\.after_(?P<name>[^.]+)(?:\.before_[^.]+)?|"
    r"(?P<first>before_optimizations)|(?:\w+_)?(?P<last>after_optimizations))"
    r"\.(?:hlo\.pb|hlo|txt)"
)
BEFORE: Final = "before optimisation"
AFTER: Final = "after optimisation"
"""The steps from the lowered module to the first one of a folder, and from the last one to the compiled module. Both
sides are one module, so nothing changes."""
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


class InstructionChange(NamedTuple):
    """What a pass did to one instruction.

    name: XLA's own. before, after: the instruction as HLO text writes it, without its attributes; empty where the
    module has none of this name, or none that costs anything. cost: the change. owners: the change by what the
    instruction belongs to, which adds up to `cost`: of a program its equations at their call sites, of a folder the
    names of jax; None is not known.
    """

    name: str
    before: str
    after: str
    cost: Properties
    owners: Mapping[Owner | None, Properties]

    @property
    def scopes(self) -> dict[Scope | None, Properties]:
        """The change by scope; () is outside of every named scope, None is not known."""
        return _summed((_scope(owner), cost) for owner, cost in self.owners.items())


class PassStep(NamedTuple):
    """What one run of a pass did.

    pipeline, name: XLA's own. cost: the change of the total. changes: the instructions whose cost or owner differs;
    they add up to `cost`. attributed: the share of the FLOPs and transcendentals after it whose owner is known.
    number: the position of its module in the order of writing, from 1.
    """

    pipeline: str
    name: str
    cost: Properties
    changes: Sequence[InstructionChange]
    attributed: float = 1.0
    number: int = 0

    def __repr__(self) -> str:
        """Return the pass, and what it changed."""
        return f"PassStep({self.name!r}, {self.cost}, {len(self.changes)} instructions)"

    @property
    def cause(self) -> str:
        """What the pass does, in plain words."""
        return PLAIN.get(self.name, self.name)

    @property
    def owners(self) -> dict[Owner | None, Properties]:
        """The change by owner; None is not known."""
        return _summed(item for change in self.changes for item in change.owners.items())

    @property
    def scopes(self) -> dict[Scope | None, Properties]:
        """The change by scope; () is outside of every named scope, None is not known."""
        return _summed(item for change in self.changes for item in change.scopes.items())

    @property
    def added(self) -> int:
        """The number of instructions with a cost that are new."""
        return sum(not change.before for change in self.changes)

    @property
    def removed(self) -> int:
        """The number of instructions with a cost that are gone."""
        return sum(not change.after for change in self.changes)

    @property
    def changed(self) -> int:
        """The number of instructions that cost another number, or belong to something else."""
        return len(self.changes) - self.added - self.removed


class PassChanges(NamedTuple):
    """What one pass did in all its runs: a part of a `PassTrail`."""

    name: str
    runs: Sequence[PassStep]

    @property
    def cause(self) -> str:
        """What the pass does, in plain words."""
        return PLAIN.get(self.name, self.name)

    @property
    def cost(self) -> Properties:
        """The change of the total."""
        return _total(run.cost for run in self.runs)

    @property
    def equations(self) -> int:
        """The number of equations, or other owners, of which it changed something."""
        return len({owner for run in self.runs for change in run.changes for owner in change.owners})

    def changes(self, equation: Any = None) -> list[InstructionChange]:
        """Return the instructions that the pass changed, those with the largest change first.

        equation: only those of one equation, with its part of the cost: an address, or anything that has one, such as a
        call site or a delta of the comparison.
        """
        wanted = getattr(equation, "address", equation)
        return _parts(self.runs, lambda owner: wanted is None or getattr(owner, "address", None) == wanted)


@dataclass(frozen=True, repr=False)
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

    @listed
    def by_pass(self, scope: str | None = None) -> dict[str, Properties]:
        """Return the change of each pass, all its runs together, in the order of its first run.

        Args:
            scope: Only what it did to this scope and those inside. Where no scope begins so, to those that have the
                names in the middle: `layer_3` stands for `jvp(Model)/layer_3/mlp` too.

        Raises InputError for a scope that no pass changed.
        """
        chosen = self._inside(scope)
        return _summed(
            (step.name, cost) for step in self.steps for inside, cost in step.scopes.items() if inside in chosen
        )

    @listed
    def by_scope(self, name: str | None = None, depth: int | None = None) -> dict[str, Properties]:
        """Return the change of each scope, by one pass or by all; it adds up to that of the pass.

        Args:
            name: The pass; by default all together.
            depth: Levels of scopes; by default all.

        Raises InputError for a pass that is not in the trail.
        """
        self._check_pass(name)
        return _summed(
            (_written(scope, depth), cost)
            for step in self.steps
            if name in (None, step.name)
            for scope, cost in step.scopes.items()
        )

    def changes(self, name: str, scope: str | None = None) -> list[InstructionChange]:
        """Return the instructions that a pass changed, those with the largest change first.

        Args:
            name: The pass.
            scope: Only those of this scope, as `by_pass` takes it, with their part of the cost; the costs add up to
                `by_pass(scope)[name]`.

        Raises InputError for a pass or a scope that the trail does not have.
        """
        chosen = self._inside(scope)
        return _parts(self[name].runs, lambda owner: _scope(owner) in chosen)

    def __getitem__(self, name: str) -> PassChanges:
        """Return what a pass did in all its runs. Raises InputError for a pass that is not in the trail."""
        self._check_pass(name)
        return PassChanges(name, [step for step in self.steps if step.name == name])

    def _check_pass(self, name: str | None) -> None:
        names = dict.fromkeys(step.name for step in self.steps)
        if name is not None and name not in names:
            raise InputError(
                f"No pass {name!r} changed the cost of `{self.name}`.",
                why=f"These did: {', '.join(names) or 'none'}.",
                cure="Name one of them, as XLA does.",
            )

    def _inside(self, scope: str | None) -> set[Scope | None]:
        """Return the scopes that a name stands for; all of them for None."""
        scopes = dict.fromkeys(inside for step in self.steps for inside in step.scopes)
        if scope is None:
            return set(scopes)
        chosen = {inside for inside in scopes if f"{_written(inside) or NO_SCOPE}/".startswith(f"{scope}/")}
        # Transforms stand around names: `transpose(jvp(Model))/layer_3` has the names Model/layer_3.
        names = {inside: "/".join(re.split("[/()]+", _written(inside))) for inside in scopes}
        chosen = chosen or {inside for inside in scopes if f"/{scope}/" in f"/{names[inside]}/"}
        if not chosen:
            known = [*dict.fromkeys(_written(x, len(scope.split("/"))) or NO_SCOPE for x in scopes)]
            raise InputError(
                f"No pass changed the cost of the scope {scope!r} of `{self.name}`.",
                why=f"Passes changed these: {', '.join(known[:20]) or 'none'}{' ...' if len(known) > 20 else ''}.",
                cure="Name one of them; a scope stands for all that are inside.",
            )
        return chosen

    @property
    def attributed(self) -> float:
        """The share of the changed FLOPs of instructions that have a name of jax, or follow from one that has."""
        scopes = [item for step in self.steps for item in step.scopes.items()]
        whole = sum(abs(cost.flops) for _, cost in scopes)
        return sum(abs(cost.flops) for scope, cost in scopes if scope is not None) / whole if whole else 1.0


@stage("reading passes")
def read_passes(folder: str | Path, module: str | None = None, *, tpu: bool = False) -> PassTrail:
    """Return what each pass did to a module of a folder that XLA dumped into.

    Args:
        folder: That XLA dumped into.
        module: A part of the module's name; without it the module whose dump before optimisation is largest.
        tpu: Count as libtpu does. A folder without dumps of passes gives one step, from before to after
            optimisation.

    Raises InputError for a folder without a module, HloError for a damaged file.
    """
    return passes_of(dumped_versions(folder, module, tpu=tpu))


class DumpedVersions(NamedTuple):
    """The versions of one module of a folder, which are read one after the other.

    modules: of the folder, those that can be chosen. own: costax let XLA write the folder, so that its files hold
    protos, which need no examination.
    """

    name: str
    dumps: Sequence[Dump]
    modules: tuple[str, ...]
    tpu: bool
    own: bool = False

    def costs(self) -> Iterator[tuple[Dump, ModuleCost]]:
        """Yield each version with its cost. Raises HloError for a damaged file."""
        series = ModuleSeries(tpu=self.tpu)
        for dump in self.dumps:
            yield dump, series.add(contents_of(dump.path) if self.own else module_of(dump.path))


def contents_of(path: Path) -> bytes:
    """Return the bytes of a proto that XLA wrote."""
    return path.read_bytes()


def dumped_versions(
    folder: str | Path, module: str | None = None, *, tpu: bool = False, own: bool = False
) -> DumpedVersions:
    """Return the versions of one module of a folder, as `read_passes` chooses it. own: as in DumpedVersions."""
    dumps = _dumps(Path(folder))
    chosen = _chosen(dumps, module, str(folder))
    if own:
        # XLA numbers the modules of a process; the record of a program must not depend on what else it compiled.
        return DumpedVersions(re.sub(r"^module_\d+\.", "", chosen), dumps[chosen], (), tpu, own)
    return DumpedVersions(chosen, dumps[chosen], tuple(dumps), tpu, own)


def passes_of(versions: DumpedVersions, steps: Steps | None = None) -> PassTrail:
    """Return what each pass did to a module. steps: of a version that is there already, to which these are added."""
    with gc_paused():
        costs = versions.costs()
        dump, first = next(costs)
        before = first.total if steps is None else steps.version.total
        if steps is None:
            steps = Steps(first, OwnersByName(first))
        else:
            steps.begin(first)
        for dump, version in costs:
            steps.add(dump.pipeline, dump.name, version)
    return PassTrail(
        versions.name, before, steps.version.total, shown(steps.found), len(versions.dumps), versions.modules
    )


class Steps:
    """The steps of a module, found version by version.

    found: those that changed something. version: the last one. lineage: what its instructions go back to.
    first_origins: what those of the first version go back to. integrity: looks for changes that no pass makes.
    """

    def __init__(self, first: ModuleCost, owners: Owners) -> None:
        """Begin with the first version. owners: of the instructions."""
        self.found: list[PassStep] = []
        self.version: ModuleCost = first
        self.lineage: Lineage = Lineage(first, owners)
        self.first_origins: Mapping[str, str] = self.lineage.origins
        self._number = 0
        self.integrity: Integrity = Integrity()
        self._owners = owners
        self._callers = callers(first, self.lineage.origins, owners)
        self._unowned = costs_by_owner(first, self.lineage.origins, owners).get(None, _NONE)

    def begin(self, first: ModuleCost) -> None:
        """Go on with the version that XLA wrote before the first pass.

        It is the last version, converted anew, so that other instructions may have the same names: it has a lineage of
        its own.
        """
        self._number += 1
        before, earlier, callers_before = self.version, self.lineage, self._callers
        self.version, self.lineage = first, Lineage(first, self._owners)
        self._callers = callers(first, self.lineage.origins, self._owners)
        parts: _Parts = defaultdict(dict)
        for key, costed in before.computations.items():
            self._add(parts, costed, None, earlier.origins, callers_before.get(key, {}), -1)
        for key, costed in first.computations.items():
            self._add(parts, costed, None, self.lineage.origins, self._callers.get(key, {}), 1)
        self._step("", BEFORE, parts, earlier.place, before.total)

    def add(self, pipeline: str, name: str, after: ModuleCost) -> None:
        """Add the version after a pass."""
        self._number += 1
        before, callers_before = self.version, self._callers
        changes = self.lineage.advance(after)
        self.integrity.step(self._number, changes)
        if after is before:
            return
        self.version, self._callers = after, callers(after, changes.after, self._owners)
        # Of a computation that runs as often as before only these instructions may cost something else.
        touched = {*changes.removed, *changes.moved, *(x.ins.name for x in changes.new)}
        touched |= {now.ins.name for _, now in changes.kept}
        parts: _Parts = defaultdict(dict)
        for key in before.computations.keys() | after.computations.keys():
            then, now = before.computations.get(key), after.computations.get(key)
            called_then, called_now = callers_before.get(key, {}), self._callers.get(key, {})
            names = touched if called_then == called_now else None
            if names is None or then is not now or changes.moved:
                self._add(parts, then, names, changes.before, called_then, -1)
                self._add(parts, now, names, changes.after, called_now, 1)
        earlier = {**changes.removed, **{now.ins.name: then for then, now in changes.kept}}
        new = {place.ins.name for place in changes.new}
        self._step(
            *(pipeline, name, parts),
            lambda own: earlier.get(own) or (None if own in new else self.lineage.place(own)),
            before.total,
        )

    def _add(
        self,
        parts: _Parts,
        costed: CostedComputation | None,
        names: AbstractSet[str] | None,
        origins: Mapping[str, str],
        called: Mapping[Caller, Properties],
        sign: int,
    ) -> None:
        """Add what instructions of a computation cost to the parts of each, for each caller to another owner.

        names: of these instructions; None for all.
        """
        costs = costed.costs if costed is not None else _NO_COSTS
        chosen = costs.keys() if names is None else costs.keys() & names
        for caller, times in called.items():
            signed = Properties(sign * times.flops, sign * times.transcendentals, sign * times.bytes)
            for name in chosen:
                owner = self._owners.owner(origins.get(name, ""), caller)
                by_owner = parts[name]
                by_owner[owner] = by_owner.get(owner, _NONE).plus(costs[name].scaled(signed))

    def _step(
        self, pipeline: str, name: str, parts: _Parts, earlier: Callable[[str], Place | None], before: Properties
    ) -> None:
        """Add a step. earlier: returns an instruction of the version before. before: the total of that version."""
        kept = {
            name: changed
            for name, by_owner in parts.items()
            if (changed := {owner: cost for owner, cost in by_owner.items() if cost != _NONE})
        }
        # A version where nothing that XLA counts has changed is no step.
        if not kept:
            return
        found = [
            InstructionChange(
                own, _text(earlier(own)), _text(self.lineage.place(own)), _total(by_owner.values()), by_owner
            )
            for own, by_owner in kept.items()
        ]
        self._unowned = self._unowned.plus(_total(change.owners.get(None, _NONE) for change in found))
        total = self.version.total
        cost = Properties(*[now - then for now, then in zip(total, before, strict=True)])
        whole = abs(total.flops) + abs(total.transcendentals)
        unowned = abs(self._unowned.flops) + abs(self._unowned.transcendentals)
        name = f"start of {pipeline}" if name == _START else name
        self.found.append(PassStep(pipeline, name, cost, found, 1 - unowned / whole if whole else 1.0, self._number))


_Parts = defaultdict[str, dict[Owner | None, Properties]]


class Dump(NamedTuple):
    """One version of a module: its place in the order of writing, its file, and the pass that it was written after."""

    order: tuple[int, int]
    path: Path
    pipeline: str
    name: str


def _dumps(folder: Path) -> dict[str, list[Dump]]:
    """Return the dumps of each module of a folder, in the order in which XLA wrote them."""
    dumps: dict[str, list[Dump]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        match = _DUMP.fullmatch(path.name)
        if match is None:
            continue
        if match["first"]:
            dump = Dump((0, 0), path, "", "")
        elif match["last"]:
            dump = Dump((2, 0), path, "", "after_optimizations")
        else:
            dump = Dump((1, int(match["number"])), path, match["pipeline"], match["name"])
        dumps[match["module"]].append(dump)
    return {name: _named(sorted(versions)) for name, versions in dumps.items() if len(versions) > 1}


def _named(dumps: Sequence[Dump]) -> list[Dump]:
    """Name the dumps where a pipeline begins: what changed there the pass did that runs this pipeline.

    That is the pass which the pipeline around dumps next.
    """
    named: list[Dump] = []
    for i, dump in enumerate(dumps):
        around = named[-1].pipeline if named else ""
        ended = (later.name for later in dumps[i + 1 :] if later.pipeline == around and later.name != _START)
        inner = dump.name == _START and dump.pipeline != around and bool(around)
        named.append(dump._replace(name=next(ended, dump.name)) if inner else dump)
    return named


def _chosen(dumps: Mapping[str, Sequence[Dump]], module: str | None, folder: str) -> str:
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


def _text(place: Place | None) -> str:
    """Return an instruction that costs something as HLO text writes it; "" for none."""
    return repr(place.ins) if place is not None and place.cost != _NONE else ""


def _parts(steps: Iterable[PassStep], is_wanted: Callable[[Owner | None], bool]) -> list[InstructionChange]:
    """Return the changes of instructions of some owners with their part of the cost, the largest first."""
    parts = [
        change._replace(cost=_total(owners.values()), owners=owners)
        for step in steps
        for change in step.changes
        if (owners := {owner: cost for owner, cost in change.owners.items() if is_wanted(owner)})
    ]
    return sorted(parts, key=lambda change: tuple(-abs(count) for count in change.cost))


def _scope(owner: Owner | None) -> Scope | None:
    return None if owner is None else owner.scope


def _written(scope: Scope | None, depth: int | None = None) -> str:
    return UNNAMED if scope is None else "/".join(scope[:depth])


def _total(costs: Iterable[Properties]) -> Properties:
    return reduce(Properties.plus, costs, _NONE)


def _summed(items: Iterable[tuple[_Key, Properties]]) -> dict[_Key, Properties]:
    sums: dict[_Key, Properties] = {}
    for key, cost in items:
        sums[key] = sums.get(key, _NONE).plus(cost)
    return sums
