"""Call sites: every equation of a program at each place from which it is called, with its cost and repeats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from costax.core.address import Address
from costax.core.conventions import XlaCounts, as_xla
from costax.core.cost import Cost, Count
from costax.program.tree import Node, Scope, joined_direction


@dataclass(frozen=True, slots=True, eq=False)
class CallSite:
    """An equation at one of its call sites.

    address: the marks of the calls around the equation, and its own. scope, direction: from the root of the program.
    cost: of one run, with the bodies that have no marks (combiners) and without the bodies whose equations are call
    sites of their own. static_cost: the same, with every loop in it counted as often as its body stands in the lowered
    module.
    The equation runs `loops * devices * other_repeats` times if every branch around it is taken: the iterations of
    loops, the devices of meshes, and all other repeats. In the lowered module the loops around it leave `copies` of it.
    branches: for each `cond` around it, the address of the cond, the branch, and how often costax counts that branch in
    one run of the cond: 0 or 1, or in a kernel the share of the points of the grid that run it.
    """

    address: Address
    scope: Scope
    direction: str
    node: Node
    cost: Cost
    static_cost: Cost
    loops: Count
    copies: Count
    devices: Count
    other_repeats: Count
    branches: tuple[tuple[Address, int, Count], ...]

    @property
    def primitive(self) -> str:
        """The name of the primitive."""
        return self.node.label

    @property
    def is_counted(self) -> bool:
        """Whether costax counts every branch around the equation."""
        return all(times for _, _, times in self.branches)

    @property
    def runs(self) -> Count:
        """How often the equation runs, as costax counts it."""
        share: Count = prod(times for _, _, times in self.branches)
        return self.loops * self.devices * self.other_repeats * share

    @property
    def by_xla(self) -> XlaCounts:
        """The cost of one run in XLA's convention."""
        return as_xla(self.cost)


def call_sites(tree: Node, marks: Mapping[int, int]) -> list[CallSite]:
    """Return every equation of a tree at each of its call sites, callers first.

    marks: of the equations, by their ids.
    """
    return list(_inside(tree, _Surroundings(), marks))


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """The calls, loops and branches around a body; the fields are those of CallSite."""

    address: Address = ()
    scope: Scope = ()
    direction: str = ""
    loops: Count = 1
    copies: Count = 1
    devices: Count = 1
    other_repeats: Count = 1
    branches: tuple[tuple[Address, int, Count], ...] = ()


def _inside(body: Node, around: _Surroundings, marks: Mapping[int, int]) -> Iterator[CallSite]:
    """Yield the call sites in a body."""
    for node in body.children:
        unmarked = [child for child in node.children if _is_unmarked(child, marks)]
        call_site = CallSite(
            (*around.address, marks[id(node.equation)]),
            around.scope + node.scope,
            joined_direction(around.direction, node.direction),
            node,
            node.own + Cost.sum(child.total for child in unmarked) if unmarked else node.own,
            node.own + Cost.sum(child.where(_copies_or_times) for child in unmarked) if unmarked else node.own,
            around.loops,
            around.copies,
            around.devices,
            around.other_repeats,
            around.branches,
        )
        yield call_site
        for position, child in enumerate(node.children):
            if child not in unmarked:
                yield from _inside(child, _surroundings(call_site, position, child), marks)


def _is_unmarked(body: Node, marks: Mapping[int, int]) -> bool:
    """Say whether a body has no marks: a combiner, or one that its rule traced and the jaxpr does not contain."""
    return body.fused or (bool(body.children) and id(body.children[0].equation) not in marks)


def _surroundings(call_site: CallSite, position: int, body: Node) -> _Surroundings:
    is_branch = len(call_site.node.bodies) > 1 and body.label.startswith("branch_")
    branch = ((call_site.address, position, body.times),) if is_branch else ()
    return _Surroundings(
        call_site.address,
        call_site.scope,
        call_site.direction,
        call_site.loops * (body.times if body.loop else 1),
        call_site.copies * (body.copies if body.loop else 1),
        call_site.devices * (body.times if body.per_device else 1),
        call_site.other_repeats * (1 if is_branch or body.loop or body.per_device else body.times),
        (*call_site.branches, *branch),
    )


def _copies_or_times(node: Node) -> Count:
    """Return how often a node stands in the lowered module."""
    return node.copies if node.loop else node.times
