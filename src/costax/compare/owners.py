"""Owners: the equation or the scope that an instruction belongs to, by its name of jax and the calls around it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from costax.compare.marks import MARK, ROOT, address
from costax.core.address import Address
from costax.hlo.metadata import split
from costax.hlo.replay import Properties
from costax.hlo.series import ModuleCost
from costax.program.call_sites import CallSite
from costax.program.tree import Scope

_ONCE: Final = Properties(1, 1, 1)
# In a damaged file, nested calls could make the joined names grow without bound.
_MAX_SCOPE_DEPTH: Final = 100

Caller = tuple[int | str, ...]
"""The call of the function around a computation: an address, or without a program the path of scopes."""


class Owner(Protocol):
    """What an instruction belongs to."""

    @property
    def scope(self) -> Scope:
        """The scope that it stands in."""
        ...

    @property
    def primitive(self) -> str:
        """The name of the primitive."""
        ...


class Names(Protocol):
    """What the names of jax tell. Those inside a shared function are relative to its call until calls are inlined."""

    def is_known(self, name: str) -> bool:
        """Say whether a name of jax tells what an instruction belongs to."""
        ...

    def is_rooted(self, name: str) -> bool:
        """Say whether a name of jax is that of the whole path, not relative to the call of a function."""
        ...

    def inside(self, name: str, caller: Caller) -> Caller:
        """Return the caller of a function that an instruction with a name of jax calls."""
        ...


class Owners(Names, Protocol):
    """Names of jax, and what owns the instructions that have them."""

    def owner(self, name: str, caller: Caller) -> Owner | None:
        """Return the owner of an instruction with a name of jax; None for an unknown one."""
        ...


class NamedOwner(NamedTuple):
    """What the name of jax says of an instruction: the scope and the primitive."""

    scope: Scope
    primitive: str


class OwnersByName:
    """Owners by name alone, for modules without the program."""

    def __init__(self, first: ModuleCost) -> None:
        """Take the first version of a module, which names the function that jax compiled."""
        entry = list(first.computations.values())[-1].computation
        names = (split(ins.op_name) for ins in entry.instructions)
        self._root = next((name[0] for name in names if name and name[0].startswith(("jit(", "pjit(", "pmap("))), "")
        self._known: dict[tuple[str, Caller], NamedOwner | None] = {}

    def is_known(self, name: str) -> bool:
        """Say whether there is a name."""
        return bool(name)

    def is_rooted(self, name: str) -> bool:
        """Say whether a name begins with the function that jax compiled."""
        return split(name)[:1] == (self._root,)

    def owner(self, name: str, caller: Caller) -> NamedOwner | None:
        """Return scope and primitive; None for an instruction without a name."""
        key = name, caller
        if key not in self._known:
            path = self._path(name, caller)
            self._known[key] = NamedOwner(path[:-1], path[-1]) if name and path else None
        return self._known[key]

    def inside(self, name: str, caller: Caller) -> Caller:
        """Return the path of scopes of a call."""
        return self._path(name, caller)

    def _path(self, name: str, caller: Caller) -> Scope:
        path = split(name) if name else ()
        if self._root and self._root in path:
            # XLA puts the name of an inlined call before names that may begin with the root themselves.
            return path[len(path) - path[::-1].index(self._root) :]
        return (*map(str, caller), *path)[:_MAX_SCOPE_DEPTH]


class MarkedNames:
    """Names of jax with marks."""

    def is_known(self, name: str) -> bool:
        """Say whether there is a mark in a name."""
        return MARK.search(name) is not None

    def is_rooted(self, name: str) -> bool:
        """Say whether there is the mark of the program in a name."""
        return ROOT in name

    def inside(self, name: str, caller: Caller) -> Address:
        """Return the marks in a name, after those of the caller where the name is relative to it."""
        return address(name, tuple(map(int, caller)))


class CallSiteIndex(MarkedNames):
    """Owners by mark: the call sites of a program."""

    def __init__(self, call_sites: Sequence[CallSite]) -> None:
        """Index the call sites by address."""
        self._by_address = {call_site.address: call_site for call_site in call_sites}
        self._by_last_mark: dict[int, list[CallSite]] = defaultdict(list)
        for call_site in call_sites:
            self._by_last_mark[call_site.address[-1]].append(call_site)
        self._around = {call_site.address[:-1] for call_site in call_sites}
        self._known: dict[tuple[str, Caller], CallSite | None] = {}

    def owner(self, name: str, caller: Caller) -> CallSite | None:
        """Return the call site of the marks in a name; without a mark it is that of the call around."""
        key = name, caller
        if key not in self._known:
            self._known[key] = self.find(self.inside(name, caller))
        return self._known[key]

    def inside(self, name: str, caller: Caller) -> Address:
        """Return the marks in a name, after those of the caller where the name is relative to it.

        jax makes one function for equal equations such as two cumsums, and its names are those of the first. What is
        called for an equation that has no equations inside belongs to that one.
        """
        marks, inner = tuple(map(int, caller)), super().inside(name, caller)
        # After inlining the name of the call stands before that of the first, both from the root.
        outer, root, _ = name.partition(";")[0].rpartition(ROOT)
        call = address(outer, ()) if root and ROOT in outer else marks
        return call if call in self._by_address and call not in self._around else inner

    def find(self, marks: Address) -> CallSite | None:
        """Return the call site of the marks in a name, or None.

        XLA drops marks of calls that it inlines, so marks may be missing: (3, 7) is the call site (3, 5, 7) if that is
        the first one that ends with 7 and has a 3 before. Where no call site has the last mark, the equation around it
        is tried: (3, 99) is (3,).
        """
        while marks:
            exact = self._by_address.get(marks)
            if exact is not None:
                return exact
            matching = [site for site in self._by_last_mark[marks[-1]] if _is_subsequence(marks, site.address)]
            if matching:
                return matching[0]
            marks = marks[:-1]
        return None


def _is_subsequence(part: Address, whole: Address) -> bool:
    rest = iter(whole)
    return all(mark in rest for mark in part)


def callers(version: ModuleCost, origins: Mapping[str, str], names: Names) -> dict[int, dict[Caller, Properties]]:
    """Return the callers of each computation, and how often XLA counts each property of it for that caller.

    origins: the name of jax of each instruction, by its name.
    """
    found: dict[int, dict[Caller, Properties]] = {version.entry: {(): _ONCE}}
    # A module lists callees before callers: in reverse, all callers of a computation come before it.
    for key in reversed(list(version.computations)):
        for caller, times in found.get(key, {}).items():
            for ins, callee, factor in version.computations[key].calls:
                inner = found.setdefault(callee.id, {})
                # Names in a loop, a branch or a fusion begin with those of the function around; a call starts anew.
                name = names.inside(origins.get(ins.name, ""), caller) if ins.opcode == "call" else caller
                counted = factor.scaled(times)
                inner[name] = inner[name].plus(counted) if name in inner else counted
    return found


def costs_by_owner(version: ModuleCost, origins: Mapping[str, str], owners: Owners) -> dict[Owner | None, Properties]:
    """Return what XLA counts for each owner; None has what belongs to none."""
    found: dict[Owner | None, Properties] = {}
    for key, by_caller in callers(version, origins, owners).items():
        for caller, times in by_caller.items():
            for name, own in version.computations[key].costs.items():
                owner = owners.owner(origins.get(name, ""), caller)
                found[owner] = found.get(owner, Properties()).plus(own.scaled(times))
    return found
