"""An HLO module on its own, without the program that it came from: XLA's law replayed over a file.

There is no jaxpr then, so nothing is reconciled. What is known: what XLA charges each instruction, the scope and the
source line that the instruction names, and what the machine does where loops say how often they run.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

from costax.core.display import Displayed
from costax.errors import TripsError
from costax.hlo.cost_model import law_of
from costax.hlo.errors import HloError, malformed
from costax.hlo.library_calls import is_opaque, true_cost
from costax.hlo.metadata import Scopes, Sources
from costax.hlo.read import module_of, read_bytes
from costax.hlo.records import Computation, Instruction
from costax.hlo.replay import Float32, Properties, Replay, replay
from costax.rules import leaf

# The laws of factorisations and transforms, which library calls are counted by.
_REGISTERED = leaf

BY: Final = ("scope", "opcode", "source", "computation")
"""What the lines of a table may stand for."""

_NONE: Final = Properties()
_ONCE: Final = Properties(1, 1, 1)
# XLA goes through a computation again at each call. A real module takes millions of steps; a tower of calls, 2^n.
_MOST_STEPS: Final = 10**8
# A damaged file can nest loops without end; the time of a real one is in seconds, not in ages of the universe.
_LARGEST: Final = 2**1024


class Account(NamedTuple):
    """What XLA charges, and what the machine does: loop bodies as often as they run, libraries at their true cost."""

    charged: Properties = _NONE
    executed: Properties = _NONE

    def plus(self, other: Account) -> Account:
        """Return the sum."""
        return Account(self.charged.plus(other.charged), self.executed.plus(other.executed))


class Line(NamedTuple):
    """One instruction, all its call sites together. opaque: it calls something of which nothing tells the work."""

    computation: Computation
    instruction: Instruction
    account: Account
    opaque: bool


@dataclass(frozen=True, slots=True)
class Loop:
    """A while loop: its instruction, its scope, its source line, and how often it runs, None where nothing says so."""

    name: str
    scope: str
    source: str
    trips: int | None


@dataclass(frozen=True)
class ModuleAnalysis(Displayed):
    """XLA's account of one HLO module.

    name: the module's. replay: XLA's law over its instructions. lines: each instruction that is charged or executed.
    loops: every while loop that runs. hlo: the bytes of the module. xla: XLA's own dictionary, None until `compare`
    asks for it. versions: of the jaxlib whose law it is, and of costax.
    """

    name: str
    replay: Replay = field(repr=False)
    lines: tuple[Line, ...] = field(repr=False)
    loops: tuple[Loop, ...] = field(repr=False)
    hlo: bytes = field(repr=False)
    xla: Mapping[str, float] | None = None
    versions: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def total(self) -> Properties:
        """FLOPs, transcendentals and bytes as exact integers."""
        return self.replay.total

    @property
    def float32(self) -> Float32:
        """The same in XLA's float32 and order: what XLA prints."""
        return self.replay.float32

    @cached_property
    def executed(self) -> Properties:
        """What the machine does: loop bodies as often as they run, library calls at their true cost.

        A loop without a known trip count runs once, and a call of which nothing tells the work adds nothing.
        """
        return Properties(*(sum(line.account.executed[i] for line in self.lines) for i in range(3)))

    @property
    def matches_xla(self) -> bool | None:
        """Say whether the replay equals XLA's dictionary bit for bit; None where XLA was not asked."""
        return None if self.xla is None else self.replay.matches(self.xla)

    @property
    def unknown_loops(self) -> tuple[Loop, ...]:
        """The loops without a known trip count."""
        return tuple(loop for loop in self.loops if loop.trips is None)

    @cached_property
    def opaque(self) -> dict[str, int]:
        """How many calls there are, by target, of which nothing tells the work."""
        return dict(Counter(line.instruction.custom_call_target for line in self.lines if line.opaque))

    @property
    def exact(self) -> bool:
        """Say whether what is executed is known: every loop's trip count and the work of every library call."""
        return not self.unknown_loops and not self.opaque

    @property
    def instructions(self) -> int:
        """How many instructions the module has."""
        return sum(len(computation.instructions) for computation in self.replay.module.computations.values())

    def by_opcode(self) -> dict[str, Account]:
        """Return the account of each opcode; a custom call is named by its target."""
        return self._by(lambda line: _opcode(line.instruction))

    def by_scope(self, depth: int | None = None) -> dict[str, Account]:
        """Return the account of each scope of the names that jax gave; "" holds what has no name or no scope."""
        scopes = Scopes(self.replay.module)
        return self._by(lambda line: "/".join(scopes.of(line.computation, line.instruction)[:depth]))

    def by_source(self) -> dict[str, Account]:
        """Return the account of each `file:line`; "" holds what has none."""
        sources = Sources(self.replay.module)
        return self._by(lambda line: sources.of(line.instruction))

    def by_computation(self) -> dict[str, Account]:
        """Return the account of each computation, without those that it runs."""
        return self._by(lambda line: line.computation.name)

    def _by(self, key: Callable[[Line], str]) -> dict[str, Account]:
        sums: dict[str, Account] = {}
        for line in self.lines:
            name = key(line)
            sums[name] = sums[name].plus(line.account) if name in sums else line.account
        return sums


def analyze_module(path: str | Path, trips: Mapping[str, int] | None = None) -> ModuleAnalysis:
    """Return XLA's account of the HLO module in a file: serialised, or text; nothing is compiled or executed.

    trips: how often loops run that do not say so, by instruction name or scope; patterns are allowed.
    Raises HloError for a file without a well-formed module, TripsError for an answer that no loop asks for.
    """
    try:
        return analyze_bytes(module_of(path), trips)
    except HloError as fault:
        if str(path) not in fault.where:
            fault.where = f"{path}: {fault.where}" if fault.where else str(path)
        raise


def analyze_bytes(hlo: bytes, trips: Mapping[str, int] | None = None) -> ModuleAnalysis:
    """Return XLA's account of a serialised HLO module."""
    module = read_bytes(hlo)
    account = replay(module, law_of())
    loops = _Loops(account, trips or {})
    found = tuple(_lines(account, loops))
    versions = {name: importlib.metadata.version(name) for name in ("jaxlib", "costax")}
    return ModuleAnalysis(module.name, account, found, tuple(loops.found.values()), hlo, None, versions)


def compare_module(path: str | Path, trips: Mapping[str, int] | None = None) -> ModuleAnalysis:
    """As `analyze_module`, with XLA's own dictionary beside it, by the client of the CPU.

    Raises HloError also where XLA refuses the module.
    """
    from costax import _jax

    found = analyze_module(path, trips)
    _check_steps(found.replay)
    try:
        return replace(found, xla=_jax.xla_cost_of_foreign(found.hlo))
    except _jax.XlaError as fault:
        raise malformed(f"XLA refuses the module: {str(fault)[:400]}", where=str(path)) from fault


def _check_steps(account: Replay) -> None:
    """Refuse a module that XLA would never come to the end of."""
    steps: dict[int, int] = {}
    for key, one in account.sums.items():
        called = sum(steps[callee.id] for ins in account.module.computations[key].instructions for callee in ins.called)
        steps[key] = min(len(one.own) + 1 + called, 2 * _MOST_STEPS)
    if steps[account.module.entry.id] > _MOST_STEPS:
        raise malformed("XLA's own analysis would go through more than 10^8 instructions, calls repeated")


def _lines(account: Replay, loops: _Loops) -> Iterator[Line]:
    """Yield what each instruction is charged and does, callers before callees."""
    runs: dict[int, Properties] = defaultdict(lambda: _NONE, {account.module.entry.id: _ONCE})
    for key in reversed(list(account.sums)):
        here, times = runs[key], account.times.get(key, _NONE)
        if max(here) > _LARGEST:
            raise malformed("The loops run more often than float64 can hold", where=_named(account, key))
        one = account.sums[key]
        for instruction, own in one.own:
            true = _true(instruction, own, account)
            opaque = true is None
            done = (true or _NONE).scaled(here)
            made = Account(own.scaled(times), done)
            if opaque or made != Account():
                yield Line(account.module.computations[key], instruction, made, opaque and any(here))
        for call in one.calls:
            trips = loops.trips(call.instruction) if call.instruction.opcode == "while" else 1
            each = call.times.scaled(here).scaled(Properties(trips, trips, trips))
            runs[call.callee.id] = runs[call.callee.id].plus(each)


def _true(instruction: Instruction, own: Properties, account: Replay) -> Properties | None:
    """Return what an instruction does each time; None for a call of which nothing tells the work."""
    if instruction.opcode not in ("custom-call", "fft", "sort"):
        return own
    try:
        if is_opaque(instruction, account.law):
            return None
        library = true_cost(instruction, account.law)
    except HloError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as fault:
        # A configuration is whatever the file says that it is.
        what = f"The configuration of `{_opcode(instruction)[:100]}` cannot be read"
        raise malformed(what, where=instruction.name) from fault
    return own if library is None else library


def _named(account: Replay, key: int) -> str:
    return account.module.computations[key].name


class _Loops:
    """The while loops of a module, and the answers to how often those run that do not say so."""

    def __init__(self, account: Replay, answers: Mapping[str, int]) -> None:
        module = account.module
        scopes, sources = Scopes(module), Sources(module)
        self.found: dict[int, Loop] = {}
        used: set[str] = set()
        for key in reversed(list(account.sums)):
            for call in account.sums[key].calls:
                loop = call.instruction
                if loop.opcode != "while" or id(loop) in self.found:
                    continue
                scope = "/".join(scopes.of(module.computations[key], loop))
                known = loop.known_trip_count
                asked = [p for p in answers if known is None and any(_fits(p, x) for x in (loop.name, scope))]
                used.update(asked)
                trips = answers[asked[0]] if asked else known
                self.found[id(loop)] = Loop(loop.name, scope, sources.of(loop), trips)
        unused = sorted(answers.keys() - used)
        if unused:
            names = [loop.name for loop in self.found.values() if loop.trips is None]
            raise TripsError(
                f"No loop of unknown length is called {', '.join(map(repr, unused))}.",
                where=f"loops of unknown length: {', '.join(names) or 'none'}",
                why="The answer would change nothing.",
                cure="Name a loop of that list, its scope, or a pattern such as '*'.",
            )

    def trips(self, loop: Instruction) -> int:
        found = self.found[id(loop)].trips
        return 1 if found is None else found


def _fits(pattern: str, name: str) -> bool:
    return pattern == name or fnmatchcase(name, pattern)


def _opcode(ins: Instruction) -> str:
    return f"custom-call {ins.custom_call_target}" if ins.opcode == "custom-call" else ins.opcode
