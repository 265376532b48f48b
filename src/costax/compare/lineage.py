"""Lineage: the name of jax that each instruction goes back to, carried from one version of a module to the next.

An instruction that stays keeps its origin. A new one has that of the instruction that it is a copy of, or whose work it
does in its place; else the name of jax that it bears; else the origin of what stood in its place, of what uses it, or
of what it uses. Names alone would not do: XLA gives a product that takes in the transposition of its result the name of
the transpose.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property, lru_cache
from itertools import chain
from operator import attrgetter
from typing import Final, NamedTuple

from costax.compare.owners import Names
from costax.compare.place import Place
from costax.compare.waiting_work import WaitingWork
from costax.hlo.consumers import is_resharding
from costax.hlo.proto import decode
from costax.hlo.records import Instruction, text
from costax.hlo.replay import Properties
from costax.hlo.series import CostedComputation, ModuleCost

_NONE: Final = Properties()
_NAME: Final = attrgetter("name")
# The suffixes that XLA gives to copies: `add.3.clone.1`, `exp.remat2`.
_COPY: Final = re.compile(r"\.(?:clone|remat).*$")
RESHARDING: Final = frozenset({"sharding_constraint", "reshard", "device_put"})
"""Equations by which a program asks for another sharding."""
# How far from an instruction that only moves a value the instruction may stand that computes it.
_MOST_STEPS: Final = 3


class Changes(NamedTuple):
    """How a version of a module differs from the one before.

    removed: instructions by name that it no longer has. new: those that it did not have. kept: those that have other
    content, operands or callees, before and after. moved: those that stay and have another origin. before, after: the
    origins of all instructions. beside: returns the instructions of a computation, by its id. places: all instructions
    of the version, by name. fused: the computations of fusions.
    """

    removed: Mapping[str, Place]
    new: Sequence[Place]
    kept: Sequence[tuple[Place, Place]]
    moved: AbstractSet[str]
    before: Mapping[str, str]
    after: Mapping[str, str]
    beside: Callable[[int], Iterator[Place]]
    places: Mapping[str, Place]
    fused: AbstractSet[int]


class Lineage:
    """The origins of the instructions of the version that was read last.

    origins: by the name of an instruction, the name of jax that it goes back to; "" where there is none.
    """

    def __init__(self, first: ModuleCost, names: Names) -> None:
        """Take the first version, whose instructions go back to their own names. names: what they tell."""
        self._jax_names = names
        self.origins: dict[str, str] = {}
        self._places: dict[str, Place] = {}
        self._names: dict[bytes, str] = {}
        self._of_copies: dict[tuple[str, str, Properties], str] = {}
        self._of_opcodes: dict[tuple[str, str], str] = {}
        self._unowned: set[str] = set()
        self._version: ModuleCost | None = None
        self.advance(first)

    def advance(self, after: ModuleCost) -> Changes:
        """Go on to the next version."""
        before_origins = self.origins
        self.origins = dict(before_origins)
        before = self._version.computations if self._version is not None else dict[int, CostedComputation]()
        changed = [costed for key, costed in after.computations.items() if before.get(key) is not costed]
        # What a computation no longer has, unless another one has it now.
        now = {ins.name: self._read(costed, ins) for costed in changed for ins in costed.new}
        left = _names(costed for key, costed in before.items() if after.computations.get(key) is not costed)
        stay = _names(changed)
        removed = {name: self._places[name] for name in left if name not in now and name not in stay}
        kept = [(self._places[name], place) for name, place in now.items() if name in self._places]
        new = [place for name, place in now.items() if name not in self._places]
        moved = self._keep(kept)
        step = _Step(self, removed, new, now, after)
        step.run(self._renamed(changed, before, now, removed))
        for name in removed:
            del self._places[name]
            self.origins.pop(name, None)
            self._unowned.discard(name)
        self._places.update(now)
        if changed:
            moved |= self._adopted(step)
        self._version = after
        fused = {costed.computation.id for costed in changed if costed.computation.is_fusion}
        return Changes(removed, new, kept, moved, before_origins, self.origins, self._beside, self._places, fused)

    def _renamed(
        self,
        changed: Iterable[CostedComputation],
        before: Mapping[int, CostedComputation],
        now: Mapping[str, Place],
        removed: Mapping[str, Place],
    ) -> dict[str, Place]:
        """Return new instructions with the removed ones that stood in their place, where a pass only renamed them.

        Their computation has as many instructions as before, with the same opcodes and shapes in the same order.
        """
        renamed: dict[str, Place] = {}
        for costed in changed:
            then = before.get(costed.computation.id)
            old, new = (x.computation.instructions if x else () for x in (then, costed))
            if len(old) == len(new) and all(_looks(x) == _looks(y) for x, y in zip(old, new, strict=True)):
                pairs = [(x.name, y.name) for x, y in zip(old, new, strict=True)]
                renamed.update((y, removed[x]) for x, y in pairs if x != y and y in now and x in removed)
        return renamed

    def _beside(self, computation: int) -> Iterator[Place]:
        costed = self._version.computations[computation] if self._version is not None else None
        return (self._places[ins.name] for ins in (costed.computation.instructions if costed else ()))

    def _adopted(self, step: _Step) -> set[str]:
        """Give instructions without an origin that of the loop around them, which may have been inlined."""
        found = {name: origin for name in self._unowned if (origin := step.of_caller(self._places[name]))}
        self.origins.update(found)
        self._unowned -= found.keys()
        return set(found)

    def _read(self, costed: CostedComputation, ins: Instruction) -> Place:
        return Place(ins, costed.computation.id, costed.costs.get(ins.name, _NONE), self._name(ins))

    def _name(self, ins: Instruction) -> str:
        raw = ins.raw_metadata
        name = self._names.get(raw)
        if name is None:
            name = text(decode("Metadata", raw, ins.name).op_name) if raw else ""
            name = self._names[raw] = name if self._jax_names.is_known(name) else ""
        return name

    def _keep(self, kept: Sequence[tuple[Place, Place]]) -> set[str]:
        """Keep the origins of instructions that stay, and return the names of those of a function that was inlined.

        XLA may give an instruction the name of jax of an equal one that it replaces.
        """
        moved: set[str] = set()
        for then, now in kept:
            if then.name == now.name or not now.name:
                continue
            name, origin = now.ins.name, self.carried(then, now)
            if origin != self.origins[name]:
                self.origins[name] = origin
                moved.add(name)
            self._of_copies[now.name, *now.content] = origin
        return moved

    def carried(self, then: Place, now: Place) -> str:
        """Return the origin of an instruction for the one that it became.

        The names inside a function are relative to its call. When it is inlined, the name of the call comes before.
        """
        origin = self.origins[then.ins.name]
        if not origin or now.name == then.name:
            return origin
        if then.name and now.name.endswith(then.name):
            return now.name.removesuffix(then.name) + origin
        is_inlined = not then.name and self._jax_names.is_rooted(now.name) and not self._jax_names.is_rooted(origin)
        return f"{now.name}/{origin}" if is_inlined else origin

    @property
    def is_at_first(self) -> bool:
        """Whether no version was read before this one."""
        return self._version is None

    def place(self, name: str) -> Place | None:
        """Return an instruction of the version before by name."""
        return self._places.get(name)

    def root(self, computation: int) -> str:
        """Return the name of the root of a computation of the version before; "" if it had none."""
        costed = self._version.computations.get(computation) if self._version is not None else None
        return costed.computation.root.name if costed else ""

    def of_copies(self, place: Place) -> str:
        """Return where an instruction with the same name of jax, opcode and cost goes back to, or ""."""
        return self._of_copies.get((place.name, *place.content), "") if place.name else ""

    def of_opcodes(self, place: Place) -> str:
        """Return where an instruction with the same name of jax and opcode goes back to, or ""."""
        return self._of_opcodes.get((place.name, place.ins.opcode), "") if place.name else ""

    def settle(self, place: Place, origin: str) -> None:
        """Set the origin of a new instruction, which those like it will share."""
        self.origins[place.ins.name] = origin
        if not origin and any(place.cost):
            self._unowned.add(place.ins.name)
        if place.name:
            self._of_copies.setdefault((place.name, *place.content), origin)
            self._of_opcodes.setdefault((place.name, place.ins.opcode), origin)


class _Step:
    """The new instructions of one version, and those that it no longer has."""

    def __init__(
        self,
        lineage: Lineage,
        removed: Mapping[str, Place],
        new: Sequence[Place],
        now: Mapping[str, Place],
        after: ModuleCost,
    ) -> None:
        self._lineage, self._removed, self._new, self._now, self._after = lineage, removed, new, now, after
        self._names = {place.ins.name for place in new}
        # The removed instructions by their name of jax, and those that new instructions are copies of.
        self._by_name: dict[tuple[str, str, Properties], Place] = {}
        self._originals: dict[str, Place] = {}
        self._users_by_computation: dict[int, dict[str, list[Instruction]]] = {}
        self._waiting = WaitingWork(removed.values())

    def run(self, renamed: Mapping[str, Place]) -> None:
        """Settle the new instructions. renamed: those that only have another name, with what they were."""
        later: list[Place] = []
        # Users stand after their operands, and callers after what they call: backwards, those come first.
        for place in reversed(self._new):
            earlier = renamed.get(place.ins.name)
            origin = self._lineage.carried(earlier, place) if earlier else self._origin(place)
            if origin:
                self._lineage.settle(place, origin)
            else:
                later.append(place)
        for place in reversed(later):
            origins = (self._lineage.origins.get(x.name, "") for x in place.ins.operands)
            self._lineage.settle(place, next((x for x in origins if x), "") or self.of_caller(place))

    def _origin(self, place: Place) -> str:
        """Return the origin of a new instruction, "" if neither its name nor what uses it tells."""
        # In the first version every name is its own.
        if place.name and self._lineage.is_at_first:
            return place.name
        return (
            self._asking(place)
            or self._lineage.of_copies(place)
            or self._same(place)
            or self._copied(place)
            or self._lineage.of_opcodes(place)
            or self._beside(place)
            or place.name
            or self._of_original(place)
            or self._replaced(place)
            or self._sharing(place)
            or self._of_user(place)
        )

    def _asking(self, place: Place) -> str:
        """Return the name of the equation that asks for what the partitioner moves, such as `reshard`; "" for none.

        It is a copy of the result, which later passes remove.
        """
        if not is_resharding(place.ins):
            return ""
        names = (self._now[user.name].name for user in self._users(place) if user.name in self._now)
        return next((name for name in names if name.rpartition("/")[2] in RESHARDING), "")

    def _same(self, place: Place) -> str:
        """Return the origin of a removed instruction that did the same work with the same operands, in any order."""
        found = self._waiting.with_operands_of(place) if place.computes else None
        return self._taken(place, found) if found else ""

    def _taken(self, place: Place, found: Place) -> str:
        """Return the origin of removed work that a new instruction does; no other one does it."""
        self._waiting.take(found)
        return self._lineage.carried(found, place)

    def _beside(self, place: Place) -> str:
        """Return the origin of removed work that a new instruction does now, if what it is named after did none.

        It must stand near a removed instruction of that name, which moved its result.
        """
        candidates = self._waiting.like(place) if place.computes and place.name else None
        if not candidates or self._waiting.has_name_of(place):
            return ""
        level = self._removed_by_name.get(place.name, ())
        for _ in range(_MOST_STEPS):
            operands = (self._lineage.place(operand.name) for ins in level for operand in ins.operands)
            level = [place.ins for place in operands if place]
            found = next((candidates[ins.name] for ins in level if ins.name in candidates), None)
            if found is not None:
                return self._taken(place, found)
        return ""

    @cached_property
    def _removed_by_name(self) -> Mapping[str, Sequence[Instruction]]:
        found: dict[str, list[Instruction]] = defaultdict(list)
        for place in self._removed.values():
            found[place.name].append(place.ins)
        return found

    @cached_property
    def _callers(self) -> Mapping[int, Instruction]:
        """By computation, an instruction that calls it."""
        return {
            callee.id: ins
            for costed in self._after.computations.values()
            for ins in costed.computation.instructions
            for callee in ins.called
        }

    def _users(self, place: Place) -> Sequence[Instruction]:
        """Return the users of a new instruction; a fusion uses the root inside it."""
        users = self._users_by_computation.get(place.computation)
        if users is None:
            users = self._users_by_computation[place.computation] = defaultdict(list)
            computation = self._after.computations[place.computation].computation
            for ins in computation.instructions:
                for operand in ins.operands:
                    if operand.name in self._names:
                        users[operand.name].append(ins)
            caller = self._callers.get(place.computation)
            if caller is not None and caller.opcode == "fusion":
                users[computation.root.name].append(caller)
        return users.get(place.ins.name, ())

    def _of_original(self, place: Place) -> str:
        original = _COPY.sub("", place.ins.name)
        return self._lineage.origins.get(original, "") if original != place.ins.name else ""

    def _copied(self, place: Place) -> str:
        """Return the origin of the instruction that a new one is a copy of: it has the same place before its user.

        Whether the user is a copy itself is known by its name of jax, or because it was found in this way.
        """
        for user in self._users(place):
            for number, operand in enumerate(user.operands):
                original = self._original(user) if operand.name == place.ins.name else None
                if original is None or number >= len(original.ins.operands):
                    continue
                found = self._lineage.place(original.ins.operands[number].name)
                if found is not None and found.ins.opcode == place.ins.opcode and found.cost[:2] == place.cost[:2]:
                    self._originals[place.ins.name] = found
                    return self._lineage.carried(found, place)
        return ""

    def _original(self, ins: Instruction) -> Place | None:
        """Return the removed instruction that a new one is a copy of."""
        place = self._now.get(ins.name)
        if place is None or ins.name in self._originals or not place.name:
            return self._originals.get(ins.name)
        if not self._by_name:
            self._by_name.update({(tail(x.name), *x.content): x for x in self._removed.values() if x.name})
        return self._by_name.get((tail(place.name), *place.content))

    def _replaced(self, place: Place) -> str:
        """Return the origin of the removed instruction that the users of a new one used in its place."""
        for user in self._users(place):
            earlier = self._lineage.place(user.name)
            if earlier is None or len(earlier.ins.operands) != len(user.operands):
                continue
            for now, then in zip(user.operands, earlier.ins.operands, strict=True):
                if now.name == place.ins.name and then.name in self._removed:
                    return self._lineage.carried(self._removed[then.name], place)
        root = self._lineage.root(place.computation)
        is_root = self._after.computations[place.computation].computation.root.name == place.ins.name
        return self._lineage.carried(self._removed[root], place) if is_root and root in self._removed else ""

    def _sharing(self, place: Place) -> str:
        """Return the origin of removed work of as many operations that had an operand in common with a new one."""
        if not place.computes or not self._waiting.has_work(place.cost[:2]):
            return ""
        operands = {x.name for x in place.ins.operands if not self._is_constant(x)}
        found = self._waiting.reading(place.cost[:2], operands)
        return self._taken(place, found) if found else ""

    def _is_constant(self, ins: Instruction) -> bool:
        """Say whether an instruction is a constant or repeats one: many equations share those."""
        # The operands of an operand may be those of an earlier version, so it is looked for by name.
        here = self._now.get(ins.name) or self._lineage.place(ins.name)
        repeated = here.ins.operands if here and ins.opcode == "broadcast" else ()
        return ins.opcode == "constant" or any(x.opcode == "constant" for x in repeated)

    def _of_user(self, place: Place) -> str:
        origins = (self._lineage.origins.get(user.name, "") for user in self._users(place))
        return next((origin for origin in origins if origin), "")

    def of_caller(self, place: Place) -> str:
        """Return the origin of the loop, branch or fusion around an instruction; of a call the caller tells."""
        ins, seen = self._callers.get(place.computation), set[str]()
        while ins is not None and ins.opcode != "call" and ins.name not in seen:
            seen.add(ins.name)
            origin = self._lineage.origins.get(ins.name, "")
            if origin:
                return origin
            here = self._now.get(ins.name) or self._lineage.place(ins.name)
            ins = self._callers.get(here.computation) if here else None
        return ""


@lru_cache(maxsize=2**14)
def tail(name: str) -> str:
    """Return the end of a name of jax, which stays when a function is inlined: `mlp/dot_general`."""
    return "/".join(name.rsplit("/", 2)[-2:])


def _names(computations: Iterable[CostedComputation]) -> dict[str, None]:
    """Return the names of all instructions, in order."""
    return dict.fromkeys(chain.from_iterable(map(_NAME, costed.computation.instructions) for costed in computations))


def _looks(ins: Instruction) -> tuple[str, str, tuple[int, ...]]:
    return ins.opcode, ins.shape.dtype, ins.shape.dims
