"""Collectives: the bytes that each device sends to the others of a mesh axis, and the arithmetic of reductions.

The counts are for one device of a group of n, by the algorithms that send the fewest bytes: rings, or direct exchange
for an all-to-all. Bytes that do not divide by n are rounded up. Source: R. Thakur, R. Rabenseifner,
W. Gropp, "Optimization of collective communication operations in MPICH" (2005), sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, cast

from costax.core.cost import ZERO, Cost, Count
from costax.core.equation import Equation
from costax.errors import Uncountable
from costax.rules.registry import cost_rule, free, no_traffic
from costax.rules.traits import IDENTITY, Traits


def group_size(eqn: Equation) -> int:
    """Return the number of devices of a group: that of `axis_index_groups`, else the product of the named axes."""
    groups: Sequence[Sequence[int]] | None = eqn.params.get("axis_index_groups")
    if groups is not None:
        return len(groups[0])
    if eqn.params.get("axis_size") is not None:
        return eqn.params["axis_size"]
    return prod(_size(eqn, axis) for axis in _named_axes(eqn))


def _named_axes(eqn: Equation) -> tuple[Any, ...]:
    parameter: Any = eqn.params["axes"] if "axes" in eqn.params else eqn.params["axis_name"]
    axes = cast("Sequence[Any]", parameter) if isinstance(parameter, tuple | list) else (parameter,)
    # `vmap` replaces a named axis by a positional one, an integer, which is reduced on the device itself.
    return tuple(axis for axis in axes if not isinstance(axis, int))


def _size(eqn: Equation, axis: Any) -> int:
    if axis not in eqn.axis_sizes:
        raise Uncountable(f"communicates over the axis {axis!r}, whose size is not in the program")
    return eqn.axis_sizes[axis]


def share(total: Count, parts: Count, of: int) -> Count:
    """Return total * parts / of, rounded up.

    >>> share(100, 2 * 3, 4), share(10, 2, 3)
    (150, 7)
    """
    return -(-total * parts // of)


@cost_rule(
    "psum",
    "psum_invariant",
    "unreduced_psum",
    "psum_start",
    "psum_invariant_start",
    "unreduced_psum_start",
    traits=Traits(collective="all-reduce"),
)
def psum(eqn: Equation) -> Cost:
    """An all-reduce: a reduce-scatter, then an all-gather.

    Of n devices each sends 2 (n - 1) / n of its bytes, and adds (n - 1) / n of its elements.
    XLA: HandleAllReduce runs the combiner once for each element, as if n were 2, and counts no bytes sent.
    """
    return _all_reduce(eqn)


@cost_rule("pmax", "pmin", "unreduced_pmax", "unreduced_pmin", traits=Traits(collective="all-reduce"))
def pmax(eqn: Equation) -> Cost:
    """An all-reduce: a reduce-scatter, then an all-gather.

    Of n devices each sends 2 (n - 1) / n of its bytes, and compares (n - 1) / n of its elements.
    XLA: HandleAllReduce runs the combiner once for each element, as if n were 2, and counts no bytes sent.
    """
    return _all_reduce(eqn)


def _all_reduce(eqn: Equation) -> Cost:
    n = group_size(eqn)
    # Positional axes are reduced on the device first, and only the result is sent.
    positional = any(isinstance(axis, int) for axis in eqn.params["axes"])
    reduced = eqn.outputs if positional else eqn.inputs
    local = [Cost.arithmetic(x.dtype, x.size - y.size) for x, y in zip(eqn.inputs, reduced, strict=True)]
    sent = [Cost.sent(x.dtype, share(x.nbytes, 2 * (n - 1), n)) for x in reduced]
    joined = [Cost.arithmetic(x.dtype, share(x.size, n - 1, n)) for x in reduced]
    return Cost.sum([*local, *sent, *joined])


@cost_rule(
    "reduce_scatter",
    "reduce_scatter_start",
    traits=Traits(collective="reduce-scatter", xla="HandleReduceScatter counts no additions"),
)
@cost_rule("unreduced_reduce_scatter", "unreduced_reduce_scatter_start", traits=Traits(collective="reduce-scatter"))
def reduce_scatter(eqn: Equation) -> Cost:
    """Each device receives its part of the sum.

    Of n devices each sends (n - 1) / n of its bytes, and adds (n - 1) / n of its elements.
    XLA: HandleReduceScatter, 0 FLOPs.
    """
    n, operand = group_size(eqn), eqn.inputs[0]
    return Cost.sent(operand.dtype, share(operand.nbytes, n - 1, n)) + Cost.arithmetic(
        operand.dtype, share(operand.size, n - 1, n)
    )


@cost_rule(
    "all_gather",
    "all_gather_invariant",
    "all_gather_reduced",
    "all_gather_start",
    "all_gather_reduced_start",
    traits=Traits(collective="all-gather"),
)
def all_gather(eqn: Equation) -> Cost:
    """Each device receives the shards of all devices.

    Each of n devices sends n - 1 shards on: (n - 1) * bytes of its input.
    XLA: HandleAllGather, 0 FLOPs.
    """
    return Cost.sum(Cost.sent(x.dtype, x.nbytes * (group_size(eqn) - 1)) for x in eqn.inputs)


@cost_rule("all_to_all", "all_to_all_start", traits=Traits(collective="all-to-all", unmodelled=True))
def all_to_all(eqn: Equation) -> Cost:
    """Each device splits its operand into n parts, keeps one and sends one to each other device.

    Of n devices each sends (n - 1) / n of its bytes.
    XLA: HandleAllToAll, 0 FLOPs.
    """
    n = group_size(eqn)
    return Cost.sum(Cost.sent(x.dtype, share(x.nbytes, n - 1, n)) for x in eqn.inputs)


@cost_rule("ragged_all_to_all", traits=Traits(collective="all-to-all"))
def ragged_all_to_all(eqn: Equation) -> Cost:
    """Each device sends rows of its operand to the others; the numbers of rows are data.

    Counted with equal sizes that fill the operand: of n devices each sends (n - 1) / n of its bytes.
    XLA: HandleRaggedAllToAll, 0 FLOPs.
    """
    n, operand = group_size(eqn), eqn.inputs[0]
    return Cost.sent(operand.dtype, share(operand.nbytes, n - 1, n))


@cost_rule("ppermute", "ppermute_start", traits=Traits(collective="permute", unmodelled=True))
@cost_rule("psend", traits=Traits(collective="permute"))
def ppermute(eqn: Equation) -> Cost:
    """Each device that is a source sends its bytes once.

    bytes = bytes of the input * (pairs whose source is not their destination) / n, rounded up: the mean over the
    group's devices. A device sends all of its bytes or none.
    XLA: HandleCollectivePermute, 0 FLOPs.
    """
    n = group_size(eqn)
    senders = sum(source % n != destination % n for source, destination in eqn.params["perm"])
    return Cost.sum(Cost.sent(x.dtype, share(x.nbytes, senders, n)) for x in eqn.inputs)


@cost_rule("pbroadcast", "pbroadcast_start", "pbroadcast_dynamic", traits=Traits(collective="permute"))
def pbroadcast(eqn: Equation) -> Cost:
    """The value of one device is sent to every other one, along a chain.

    All of n devices but the last of the chain send it: (n - 1) / n of its bytes on average.
    XLA: HandleCollectiveBroadcast, 0 FLOPs.
    """
    n, operand = group_size(eqn), eqn.inputs[0]
    return Cost.sent(operand.dtype, share(operand.nbytes, n - 1, n))


@cost_rule("pgather", traits=Traits(collective="permute"))
def pgather(eqn: Equation) -> Cost:
    """Each device reads rows of the arrays of the others: the array is gathered, then indexed.

    Each of n devices sends n - 1 shards on: (n - 1) * bytes of its input.
    XLA: HandleAllGather, then HandleGather, 0 FLOPs.
    """
    n = group_size(eqn)
    return ZERO if n == 1 else Cost.sent(eqn.inputs[0].dtype, eqn.inputs[0].nbytes * (n - 1))


free(
    "all_gather_done",
    "psum_done",
    "reduce_scatter_done",
    "all_to_all_done",
    "pbroadcast_done",
    "ppermute_done",
    because="The wait for a collective that is counted where it starts. XLA: all-gather-done and so on, 0 FLOPs.",
    traffic=no_traffic,
    traits=IDENTITY,
)
free(
    "precv",
    because="The bytes are counted on the device that sends them. XLA: HandleRecv, 0 FLOPs.",
    traits=Traits(collective="permute"),
)
