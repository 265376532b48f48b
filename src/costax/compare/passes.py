"""Passes: what each pass of a compiler did to the cost of a module, read from the modules that XLA dumps.

With `XLA_FLAGS="--xla_dump_to=DIR --xla_dump_hlo_pass_re=.* --xla_dump_hlo_as_proto"` XLA writes a module before
optimisation, after every pass that changed it, and after optimisation. The cost of each is XLA's own, replayed; the
step of a pass is a difference of two modules, so that the steps add up to the whole difference by construction.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from costax.compare.marks import MARK
from costax.core.display import Displayed
from costax.core.progress import stage
from costax.errors import InputError
from costax.hlo.gc_pause import gc_paused
from costax.hlo.metadata import Scopes
from costax.hlo.read import module_of
from costax.hlo.records import Computation, Instruction, Module
from costax.hlo.replay import Properties
from costax.hlo.series import ModuleCost, ModuleSeries, changed_costs

Scope = tuple[str, ...]
_Key = TypeVar("_Key")

_NONE: Final = Properties()
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
    module has none of this name, or none that costs anything. cost: the change. scopes: the change by scope, which adds
    up to `cost`; () is outside of every named scope, None is not known.
    """

    name: str
    before: str
    after: str
    cost: Properties
    scopes: Mapping[Scope | None, Properties]


class PassStep(NamedTuple):
    """What one run of a pass did.

    pipeline, name: XLA's own. cost: the change of the total. changes: the instructions whose cost or scope differs;
    they add up to `cost`.
    """

    pipeline: str
    name: str
    cost: Properties
    changes: Sequence[InstructionChange]

    @property
    def cause(self) -> str:
        """What the pass does, in plain words."""
        return PLAIN.get(self.name, self.name)

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
        """The number of instructions that cost another number, or have another scope."""
        return len(self.changes) - self.added - self.removed


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

    def by_pass(self, scope: str | None = None) -> dict[str, Properties]:
        """Return the change of each pass, all its runs together, in the order of its first run.

        scope: only what it did to this scope and those inside. Where no scope begins so, to those that have the names
        in the middle: `layer_3` stands for `jvp(Model)/layer_3/mlp` too. Raises InputError for a scope that no pass
        changed.
        """
        chosen = self._inside(scope)
        return _summed(
            (step.name, cost) for step in self.steps for inside, cost in step.scopes.items() if inside in chosen
        )

    def by_scope(self, name: str | None = None, depth: int | None = None) -> dict[str, Properties]:
        """Return the change of each scope, by one pass or by all; it adds up to that of the pass.

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

        scope: only those of this scope, as `by_pass` takes it, with their part of the cost; the costs add up to
        `by_pass(scope)[name]`. Raises InputError for a pass or a scope that the trail does not have.
        """
        self._check_pass(name)
        chosen = self._inside(scope)
        parts = [
            change._replace(cost=_total(inside.values()), scopes=inside)
            for step in self.steps
            if step.name == name
            for change in step.changes
            if (inside := {key: cost for key, cost in change.scopes.items() if key in chosen})
        ]
        return sorted(parts, key=lambda change: tuple(-abs(count) for count in change.cost))

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
                if step.changes:
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
    return {name: sorted(versions) for name, versions in dumps.items() if len(versions) > 1}


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
            return next((known for known in candidates if known), ())
        if self._scopes_of is not None and MARK.search(name):
            return self._scopes_of(name)
        return (scopes.of(computation, ins),)


def _step(dump: _Dump, before: ModuleCost, after: ModuleCost, scopes: _ScopesByName) -> PassStep:
    cost = Properties(*[now - then for now, then in zip(after.total, before.total, strict=True)])
    parts: dict[str, dict[Scope | None, Properties]] = defaultdict(dict)
    # What is gone had the scope of the version before, and what is new has that of the version after.
    gone, came = changed_costs(before, after)
    for side, costs in ((-1, gone), (1, came)):
        if side == 1:
            scopes.read(after)
        for name, change in costs:
            by_scope = parts[name]
            for scope, part in scopes.split(name, change):
                signed = Properties(*[side * count for count in part])
                by_scope[scope] = by_scope.get(scope, _NONE).plus(signed)
    then, now = _written_instructions(before, after, gone), _written_instructions(after, before, came)
    changes: list[InstructionChange] = []
    for name, by_scope in parts.items():
        kept = {scope: change for scope, change in by_scope.items() if change != _NONE}
        if kept:
            changes.append(InstructionChange(name, then.get(name, ""), now.get(name, ""), _total(kept.values()), kept))
    name = f"start of {dump.pipeline}" if dump.name == _START else dump.name
    return PassStep(dump.pipeline, name, cost, changes)


def _written_instructions(
    version: ModuleCost, other: ModuleCost, costs: Sequence[tuple[str, Properties]]
) -> dict[str, str]:
    """Return the text of the instructions that have these costs in one version and not in the other, by name."""
    names = {name for name, _ in costs}
    return {
        ins.name: repr(ins)
        for key, costed in version.computations.items()
        if names and (other.computations.get(key) is not costed or version.times.get(key) != other.times.get(key))
        for ins in costed.computation.instructions
        if ins.name in names
    }


def _written(scope: Scope | None, depth: int | None = None) -> str:
    return UNNAMED if scope is None else "/".join(scope[:depth])


def _total(costs: Iterable[Properties]) -> Properties:
    return reduce(Properties.plus, costs, _NONE)


def _summed(items: Iterable[tuple[_Key, Properties]]) -> dict[_Key, Properties]:
    sums: dict[_Key, Properties] = {}
    for key, cost in items:
        sums[key] = sums.get(key, _NONE).plus(cost)
    return sums
