"""The chain of modules of a program, compiled once, in which one module at a time is falsified and compared again.

`Chain(program)` lowers and compiles a program and keeps the modules that XLA wrote. `chain.cases(rng)` chooses for each
kind of tampering a module and an equation that has work in it; `chain.outcome(case)` compares the program with that
module falsified, and says whether anything shows it.
"""

from __future__ import annotations

import functools
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

import costax
import tampering
from corpus import Program, made
from costax.compare import comparison, marks, passes
from costax.compare.comparison import Comparison, compare_program
from costax.compare.emitted import EmittedReplay
from costax.compare.owners import callers
from costax.compare.passes import Steps
from costax.core.address import Address
from costax.errors import CostaxError
from costax.hlo.files import module_of
from costax.hlo.read import read_bytes
from costax.hlo.replay import ComputationCost, Properties, replay_module
from costax.hlo.series import ModuleCost

STABLEHLO, CONVERTED, DUMPED, COMPILED = "StableHLO", "converted", "dumped", "compiled"
# XLA writes many modules, and they are the hardest to watch.
_STAGES = (STABLEHLO, CONVERTED, *[DUMPED] * 5, COMPILED)
# The account of StableHLO has no place among the modules of HLO.
_ACCOUNT = -1

Ledger = Mapping[Address, Mapping[str, tuple[int, int]]]
"""By equation, what its instructions cost: FLOPs and transcendentals by name. () has those without an equation."""


def _exchanged(what: Any) -> Callable[..., bytes | None]:
    return lambda module, names, others: tampering.exchange(module, names, others, what=what)


FALSIFIED: Mapping[str, Callable[..., bytes | None]] = {
    "remove": lambda module, names, _: tampering.remove(module, names),
    "drop": lambda module, names, _: tampering.drop(module, names),
    "double, dead": lambda module, names, _: tampering.double(module, names),
    "double, used": lambda module, names, _: tampering.double(module, names, used=True),
    "halve": lambda module, names, _: tampering.halve(module, names),
    "exchange contents": _exchanged("contents"),
    "exchange names": _exchanged("names"),
}


class Case(NamedTuple):
    """A way to falsify one module.

    version: of the module: 0 is the converted one, then come the dumped ones and the compiled one. equation: whose
    instructions are falsified. other: the equation that they are exchanged with. true: the true account of the module.
    """

    kind: str
    stage: str
    version: int
    pass_name: str
    equation: Address
    other: Address
    true: Ledger

    def __str__(self) -> str:
        """Return the case in one line."""
        place = f"{self.stage} {self.version} {self.pass_name}".rstrip()
        return f"{self.kind} of {self.equation} {list(self.true[self.equation])[:3]} in {place}"


class Outcome(NamedTuple):
    """Whether the account of the falsified module differs from the true one, and what shows that it is falsified."""

    visible: bool
    detected: str


class Chain:
    """The modules of a program, and their true comparison."""

    def __init__(self, program: Program) -> None:
        """Lower and compile a program, and compare it."""
        fn, args = made(program)
        self._stack = ExitStack()
        self._analysis = costax.analyze(fn, loops_once=True)(*args)
        live, name = self._analysis.live, self._analysis.program.name
        self._lowered = comparison._lowered(self._analysis.program, live, marks.mark(live).jaxpr, None)
        self._folder = self._stack.enter_context(comparison.dump_folder())
        self._compiled = comparison.compile_stage(self._lowered[0], name, None, 600, self._folder, {})
        self._emitted = comparison.emitted(self._lowered[0].jax_stage)
        self._dumps = comparison.dumped_versions(self._folder).dumps
        self._alone: dict[Address, Any] = {}
        self._modules = {dump.path: module_of(dump.path) for dump in self._dumps}

    def __enter__(self) -> Chain:
        """Return the chain."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the modules."""
        self._stack.close()

    def cases(self, rng: random.Random) -> Iterator[Case]:
        """Yield a case for each kind; the module and the equation are chosen at random."""
        chosen = [(kind, *self._random_module(rng)) for kind in FALSIFIED]
        ledgers = self.compared(wanted={version for _, _, version in chosen})[1]
        for kind, stage, version in chosen:
            equations = sorted(address for address in ledgers[version] if address)
            if len(equations) >= (2 if "exchange" in kind else 1):
                equation, other = rng.sample(equations, 2) if len(equations) > 1 else (equations[0], ())
                pass_name = self._dumps[version - 1].name if stage == DUMPED else ""
                yield Case(kind, stage, version, pass_name, equation, other, ledgers[version])

    def _random_module(self, rng: random.Random) -> tuple[str, int]:
        stage, dumps = rng.choice(_STAGES), len(self._dumps)
        return stage, {STABLEHLO: _ACCOUNT, CONVERTED: 0, COMPILED: dumps + 1}.get(stage) or rng.randint(1, dumps)

    def outcome(self, case: Case) -> Outcome | None:
        """Return what comes of a case; None where the instructions cannot be falsified in this way."""
        falsified = self._falsified(case)
        if falsified is None:
            return None
        try:
            found, ledgers = self.compared({case.version: falsified}, {case.version})
        except CostaxError as error:
            return Outcome(True, type(error).__name__)
        return Outcome(_sums(ledgers[case.version]) != _sums(case.true), detected(found))

    def _falsified(self, case: Case) -> Any:
        names, others = list(case.true[case.equation]), list(case.true.get(case.other, ()))
        if case.version == _ACCOUNT:
            return falsified_account(self._emitted, case.kind, names, others)
        hlo = [self._lowered[0].hlo, *self._modules.values(), self._compiled.hlo][case.version]
        return FALSIFIED[case.kind](hlo, names, others)

    def compared(
        self, falsified: Mapping[int, Any] | None = None, wanted: Collection[int] = ()
    ) -> tuple[Comparison, Mapping[int, Ledger]]:
        """Return the comparison with some modules falsified, and the accounts of the wanted modules."""
        changed, ledgers = falsified or {}, dict[int, Ledger]()
        stage, replay, marked = self._lowered
        if 0 in changed:
            stage, replay = replace(stage, hlo=changed[0]), replay_module(read_bytes(changed[0]))
        compiled = replace(self._compiled, hlo=changed.get(len(self._dumps) + 1, self._compiled.hlo))
        modules = {path: changed.get(i, raw) for i, (path, raw) in enumerate(self._modules.items(), 1)}

        def emitted_stage(*args: Any) -> Any:
            account = _true_emitted(*args)
            ledgers[_ACCOUNT] = _account_ledger(account)
            return account

        replaced = {
            "_lowered": lambda *_: (stage, replay, marked),
            "compile_stage": lambda *_: compiled,
            "dump_folder": self._same_folder,
            "emitted": lambda *_: changed.get(_ACCOUNT, self._emitted),
            "_emitted": emitted_stage,
            "alone": self._remembered,
            "Steps": functools.partial(_RecordedSteps, wanted, ledgers),
        }
        with mock.patch.multiple(comparison, **replaced), mock.patch.object(passes, "contents_of", modules.get):
            return compare_program(self._analysis.program, self._analysis), ledgers

    @contextmanager
    def _same_folder(self) -> Iterator[str]:
        yield self._folder

    def _remembered(self, call_sites: Sequence[Any], machine: Any) -> dict[Any, Any]:
        """Return what jax makes of equations alone; each is lowered once."""
        missing = [x for x in call_sites if x.address not in self._alone]
        costs = _true_alone(missing, machine)
        self._alone.update((x.address, costs.get(x)) for x in missing)
        return {x: cost for x in call_sites if (cost := self._alone[x.address]) is not None}


_true_emitted, _true_alone = comparison._emitted, comparison.alone


class _RecordedSteps(Steps):
    """The steps of a module, which note the accounts of wanted versions."""

    def __init__(self, wanted: Collection[int], ledgers: dict[int, Ledger], first: ModuleCost, owners: Any) -> None:
        super().__init__(first, owners)
        self._wanted, self._ledgers, self._versions, self._names = wanted, ledgers, 0, owners
        self._record()

    def begin(self, first: ModuleCost) -> None:
        super().begin(first)
        self._versions += 1
        self._record()

    def add(self, pipeline: str, name: str, after: ModuleCost) -> None:
        super().add(pipeline, name, after)
        self._versions += 1
        self._record()

    def _record(self) -> None:
        if self._versions in self._wanted:
            self._ledgers[self._versions] = _ledger(self.version, self.lineage.origins, self._names)


def _ledger(version: ModuleCost, origins: Mapping[str, str], owners: Any) -> Ledger:
    return _added(
        (owners.owner(origins.get(name, ""), caller), name, own.scaled(times))
        for key, by_caller in callers(version, origins, owners).items()
        for caller, times in by_caller.items()
        for name, own in version.computations[key].costs.items()
    )


def _account_ledger(account: Any) -> Ledger:
    return _added((cost.call_site, cost.instruction.name, cost) for cost in account.instruction_costs)


def _added(costs: Iterator[tuple[Any, str, Any]]) -> Ledger:
    ledger: dict[Address, dict[str, tuple[int, int]]] = defaultdict(dict)
    for owner, name, cost in costs:
        if cost.flops or cost.transcendentals:
            by_name = ledger[owner.address if owner else ()]
            so_far = by_name.get(name, (0, 0))
            by_name[name] = so_far[0] + cost.flops, so_far[1] + cost.transcendentals
    return ledger


def _sums(ledger: Ledger) -> dict[Address, tuple[int, ...]]:
    sums = {address: tuple(map(sum, zip(*costs.values(), strict=True))) for address, costs in ledger.items()}
    return {address: cost for address, cost in sums.items() if any(cost)}


def detected(found: Comparison) -> str:
    """Return what shows that a module is not the compiler's; "" if nothing does."""
    if found.unexplained:
        return "unexplained"
    if not found.matches_xla:
        return "not XLA's number"
    shares = [step.attributed for step in found.passes.steps] + [found.lowered.attributed, found.compiled.attributed]
    return "attribution" if min(shares) < 0.999 else ""


def falsified_account(replay: EmittedReplay, kind: str, names: Sequence[str], others: Sequence[str]) -> EmittedReplay:
    """Return the account of StableHLO with other costs of the operations of one equation."""
    true = {ins.name: own for cost in replay.computation_costs.values() for ins, own in cost.own}
    changed: dict[str, Properties] = {}
    for name, other in zip(names, others, strict=False) if "exchange" in kind else ():
        changed |= {name: true[other], other: true[name]}
    for name in names if "exchange" not in kind else ():
        halves = {"remove": 0, "drop": 0, "halve": 1}.get(kind, 4)
        flops, transcendentals, nbytes = true[name]
        changed[name] = Properties(flops * halves // 2, transcendentals * halves // 2, nbytes)
    costs: dict[int, ComputationCost] = {}
    # Callees stand before callers.
    for key, cost in replay.computation_costs.items():
        own = [(ins, changed.get(ins.name, before)) for ins, before in cost.own]
        called = [costs[call.callee.id].exact.scaled(call.times) for call in cost.calls]
        exact = functools.reduce(Properties.plus, [*(each for _, each in own), *called], Properties())
        costs[key] = ComputationCost(exact, cost.float32, own, cost.calls)
    return EmittedReplay(replay.module, replay.cost_model, costs, replay.times, replay.unconverted)
