"""The order in which an einsum of three or four operands with symbolic dimensions contracts them.

`jnp.einsum("ij,jk,kl->il", a, b, c)` multiplies first what is cheapest, which depends on the sizes: two orders may
differ by any factor. If a dimension is symbolic, jax takes 8 for each of them and tells nobody. While costax traces
with symbols, the order is that of large sizes, and the conditions under which numbers would give it are recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import combinations
from math import gcd, lcm
from typing import Any, Final

import jax
import opt_einsum  # pyright: ignore[reportMissingTypeStubs]
from jax._src.export import shape_poly as _shape_poly

from costax._jax.symbolic_dims import count, is_symbolic
from costax.core.polynomial import Polynomial, at_least
from costax.core.polynomial.algebra import as_polynomial, polynomial

_internals: Any = _shape_poly
_opt_einsum: Any = opt_einsum
# The size of each symbol for which the order is chosen, unless its constraints exclude it.
_LARGE: Final = 1024
# Up to so many operands opt_einsum tries all orders; for more, heuristics choose.
_MOST: Final = 4
_Step = tuple[int, int]


def contract_path(original: Callable[..., Any], record: Callable[[Polynomial, Any], None]) -> Callable[..., Any]:
    """Return jax's function for the order of an einsum with symbolic dimensions, which records its conditions.

    original: jax's own. record: takes each polynomial that must be at least 0, and the scope of the sizes.
    """

    def path(*operands: Any, **kwargs: Any) -> Any:
        arrays = [operand for operand in operands if hasattr(operand, "dtype")]
        optimize = kwargs.get("optimize")
        # A list, or jax's object that contracts from left to right, is an order that does not depend on sizes.
        if len(arrays) <= 2 or not (optimize is True or isinstance(optimize, str)):
            return original(*operands, **kwargs)
        if len(arrays) > _MOST or optimize not in (True, "auto", "optimal"):
            raise _internals.InconclusiveDimensionOperation(
                f"The order in which an einsum contracts {len(arrays)} operands depends on their sizes."
            )
        numbers = [_at_large_sizes(operand) if hasattr(operand, "dtype") else operand for operand in operands]
        ordered, contractions = _opt_einsum.contract_path(*numbers, **kwargs)
        scope = next(extent.scope for array in arrays for extent in array.shape if is_symbolic(extent))
        for difference in _conditions(numbers, arrays):
            record(difference, scope)
        return [operands[next(i for i, n in enumerate(numbers) if n is x)] for x in ordered], contractions

    return path


def _at_large_sizes(operand: Any) -> Any:
    shape = tuple(_large(extent) for extent in operand.shape)
    return jax.ShapeDtypeStruct(shape, operand.dtype)


def _large(extent: Any) -> Any:
    number = count(extent)
    return number.value({name: _size(name, extent.scope) for name in number.symbols}) if is_symbolic(extent) else extent


def _size(name: str, scope: Any) -> int:
    dimension = jax.export.symbolic_shape(name, scope=scope)[0]
    if not is_symbolic(dimension):
        return int(dimension)
    low, high = _internals._bounds_decision(dimension, _internals.BoundsPrecision.BEST)
    return int(min(max(low, _LARGE), high))


def _conditions(numbers: Sequence[Any], arrays: Sequence[Any]) -> Iterator[Polynomial]:
    """Yield what must be at least 0, so that the order of contraction at some numbers is that at other sizes too."""
    inputs, output, parsed = _opt_einsum.parser.parse_einsum_input(numbers)
    labels = [frozenset(term) for term in inputs.split(",")]
    extents: dict[str, Any] = {}
    large: dict[str, int] = {}
    for term, array, number in zip(inputs.split(","), arrays, parsed, strict=True):
        for label, extent, size in zip(term, array.shape, number.shape, strict=True):
            # A dimension of 1 is repeated for the others.
            if extents.get(label, 1) == 1:
                extents[label], large[label] = count(extent), int(size)
    orders = list(_orders(labels, frozenset(output), extents))
    at_large = [cost for _, cost in _orders(labels, frozenset(output), large)]
    # opt_einsum keeps the first of the cheapest.
    chosen = at_large.index(min(at_large))
    for position, (_, cost) in enumerate(orders):
        difference = cost - orders[chosen][1]
        if isinstance(difference, Polynomial):
            reduced = _reduced(difference) - (1 if position < chosen else 0)
            if not at_least(reduced, 0):
                yield reduced


def _orders(
    inputs: Sequence[frozenset[str]], output: frozenset[str], sizes: Mapping[str, Any]
) -> Iterator[tuple[tuple[_Step, ...], Any]]:
    """Yield each order of pairwise contractions and what it costs, as opt_einsum goes through them.

    An order costs the sum over its contractions of the product of the sizes of all labels, twice if one is summed.
    Source: opt_einsum/paths.py, `optimal`.
    """
    known: dict[tuple[frozenset[str], frozenset[str]], tuple[frozenset[str], Any]] = {}

    def contracted(terms: Sequence[frozenset[str]], rest: set[int], i: int, j: int) -> tuple[frozenset[str], Any]:
        key = terms[i], terms[j]
        if key not in known:
            either, shared = key[0] | key[1], key[0] & key[1]
            keep = output.union(*(terms[k] for k in rest - {i, j}))
            size: Any = reduce(lambda product, label: product * sizes[label], sorted(either), 1)
            known[key] = either & keep, size * (2 if shared - keep else 1)
        return known[key]

    def extended(
        order: tuple[_Step, ...], terms: tuple[frozenset[str], ...], rest: set[int], cost: Any
    ) -> Iterator[tuple[tuple[_Step, ...], Any]]:
        if len(rest) == 1:
            yield order, cost
            return
        for i, j in combinations(sorted(rest), 2):
            term, added = contracted(terms, rest, i, j)
            yield from extended((*order, (i, j)), (*terms, term), rest - {i, j} | {len(terms)}, cost + added)

    yield from extended((), tuple(inputs), set(range(len(inputs))), 0)


def _reduced(difference: Polynomial) -> Any:
    """Return a polynomial of the same sign with coprime integer coefficients, without the factors of all its terms.

    40*b^2*s - 1600*b^2 has the sign of s - 40, because sizes are positive.
    """
    terms = difference.terms
    scale = reduce(lcm, (coefficient.denominator for coefficient in terms.values()))
    common = reduce(gcd, (int(coefficient * scale) for coefficient in terms.values()))
    powers = [dict(monomial) for monomial in terms]
    factors = {
        atom: min(p.get(atom, 0) for p in powers)
        for atom in powers[0]
        if all(atom in p and atom.function == "" for p in powers)
    }
    reduced: dict[Any, Any] = {}
    for monomial, coefficient in terms.items():
        rest = tuple((atom, power - factors.get(atom, 0)) for atom, power in monomial if power > factors.get(atom, 0))
        reduced[rest] = int(coefficient * scale) // common
    return as_polynomial(polynomial(reduced))
