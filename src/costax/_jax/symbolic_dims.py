"""Symbolic dimensions: conversions between jax's and costax's polynomials.

In jax a scope contains symbols and their constraints, and the dimensions of one call must have the same scope. Specs
without constraints share one scope. costax moves the arguments of a call into a scope of its own before it traces.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

import jax
from jax import export as _export
from jax._src import core as _core
from jax._src.export import shape_poly as _shapes
from jax._src.export import shape_poly_decision as _decisions

from costax.core import polynomial
from costax.core.polynomial import Polynomial

_internals: Any = _shapes
_decision_internals: Any = _decisions
_core_internals: Any = _core
_SHARED: Final[Any] = _export.SymbolicScope()
_NUMBERS: Final = {"floordiv": polynomial.floordiv, "max": polynomial.maximum, "min": polynomial.minimum}
_tree: Any = jax.tree
_LOCK: Final = threading.Lock()
# The scopes in which costax traces, by their constraints, and the decisions of the trace that retired a scope.
_TRACING: Final[dict[tuple[str, ...], Any]] = {}
_RETIRED: Final[WeakKeyDictionary[Any, object]] = WeakKeyDictionary()
_MOST_SCOPES: Final = 256


def is_inconclusive(error: BaseException) -> bool:
    """Say whether an error, or a cause of it, is jax's error for an undecidable question about symbolic dimensions."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, _internals.InconclusiveDimensionOperation):
            return True
        following = error.__cause__ or error.__context__
        if following is None:
            return False
        error = following
    return False


def is_symbolic(dimension: object) -> bool:
    """Say whether a dimension is one of jax's symbolic ones."""
    return isinstance(dimension, _internals._DimExpr)


def scope_of(constraints: Sequence[str]) -> Any:
    """Return the scope of specs with constraints such as `s >= 2`.

    Raises ValueError for an invalid constraint, and for constraints that no sizes fulfil.
    """
    return _scope(tuple(sorted(set(constraints)))) if constraints else _SHARED


@lru_cache(maxsize=256)
def _scope(constraints: tuple[str, ...]) -> Any:
    return _scope_with(constraints)


def _satisfiable(scope: Any) -> Any:
    """Return a scope. Raises ValueError if no sizes fulfil its constraints: jax finds that out amid the trace."""
    _decision_internals._DecisionByElimination.build(scope)
    return scope


def dimension(count: Any, scope: Any) -> Any:
    """Return the jax dimension of a count. Raises ValueError for a polynomial that jax cannot express."""
    if not isinstance(count, Polynomial):
        return count
    names = {name: _export.symbolic_shape(name, scope=scope)[0] for name in count.symbols}
    return _dimension(count, names)


def _dimension(count: Polynomial, names: Mapping[str, Any]) -> Any:
    denominator = 1
    for coefficient in count.terms.values():
        denominator *= coefficient.denominator // _gcd(denominator, coefficient.denominator)
    total: Any = 0
    for monomial, coefficient in count.terms.items():
        term: Any = int(coefficient * denominator)
        for atom, exponent in monomial:
            term = term * _factor(atom, names) ** exponent
        total = total + term
    return total if denominator == 1 else total // denominator


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


def _factor(atom: polynomial.Atom, names: Mapping[str, Any]) -> Any:
    if not atom.function:
        return names[atom.text]
    a, b = (_dimension(o, names) if isinstance(o, Polynomial) else o for o in atom.operands)
    if atom.function == "floordiv":
        return a // b
    if atom.function == "max":
        return _core_internals.max_dim(a, b)
    if atom.function == "min":
        return _core_internals.min_dim(a, b)
    raise ValueError(f"a dimension cannot contain the function {atom.function}")


@lru_cache(maxsize=65536)
def _count_of(dimension: Any, _: int) -> Any:
    total: Any = 0
    for term, coefficient in dimension._sorted_terms:
        product: Any = coefficient
        for factor, exponent in term._factors:
            product = product * _atom(factor, dimension.scope) ** exponent
        total = total + product
    return total


def count(dimension: Any) -> Any:
    """Return a dimension as a count: an integer unchanged, a symbolic dimension as a polynomial."""
    if not is_symbolic(dimension):
        return dimension
    # Equal dimensions of two scopes may have different bounds: the scope is a part of the cache's key.
    return _count_of(dimension, id(dimension.scope))


def _atom(factor: Any, scope: Any) -> Any:
    if factor.var is not None:
        return polynomial.symbol(factor.var, _least(factor.var, scope))
    a, b = (count(operand) for operand in factor.operands)
    if factor.operation == "mod":
        return a - b * polynomial.floordiv(a, b)
    return _NUMBERS[factor.operation](a, b)


@lru_cache(maxsize=4096)
def _least(name: str, scope: Any) -> int:
    symbol = _internals._DimExpr._from_var(name, scope)
    low = 1 if not is_symbolic(symbol) else _internals._bounds_decision(symbol, _internals.BoundsPrecision.BEST)[0]
    return max(int(low), 1) if low > 0 else 1


def scope_conditions(scope: Any) -> list[tuple[str, Any, str]]:
    """Return (text, difference, relation) for each constraint of a scope: difference >= 0, or == 0 for an equality."""
    equal = _internals.Comparator.EQ
    return [
        (str(constraint.debug_str), count(constraint.diff), "==" if constraint.cmp == equal else ">=")
        for constraint in scope._explicit_constraints
        # for a constraint mod(e, k) == 0, jax adds k * floordiv(e, k) == e
        if is_symbolic(constraint.diff) and not (constraint.cmp == equal and "floordiv" in constraint.debug_str)
    ]


def symbolic_scopes(leaves: Iterable[Any]) -> list[Any]:
    """Return the distinct scopes of the symbolic dimensions in the shapes of some leaves."""
    scopes: dict[int, Any] = {}
    for leaf in leaves:
        for extent in _shape(leaf):
            if is_symbolic(extent):
                scopes[id(extent.scope)] = extent.scope
    return list(scopes.values())


def joined_scope(scopes: Sequence[Any]) -> Any:
    """Return one scope with the constraints of several scopes. Raises ValueError if no sizes fulfil all of them."""
    return _satisfiable(scopes[0]) if len(scopes) == 1 else _scope_with(_texts(scopes))


def tracing_scope(scope: Any) -> Any:
    """Return the scope in which costax traces dimensions of another scope, with its constraints.

    Dimensions of two scopes are never equal, so jax's caches of traced functions do not mix the traces of costax with
    those of the user. Nor with each other, once a function was traced in a scope and decided something by its sizes:
    jax would not trace the function again, and the next program that calls it would not learn of the decision. So such
    a scope is `retired`, and later traces have another one. Raises ValueError if no sizes fulfil the constraints.
    """
    texts = _texts([scope])
    with _LOCK:
        if texts not in _TRACING:
            if len(_TRACING) >= _MOST_SCOPES:
                _TRACING.pop(next(iter(_TRACING)))
            _TRACING[texts] = _scope_with(texts)
        return _TRACING[texts]


def retire(scope: Any, decisions: object) -> None:
    """Use a scope for no further traces. decisions: those of the trace that decided something by sizes."""
    with _LOCK:
        _RETIRED.setdefault(scope, decisions)
        for texts in [texts for texts, current in _TRACING.items() if current is scope]:
            del _TRACING[texts]


def is_retired(scope: Any, *, by_others_than: object) -> bool:
    """Say whether another trace has decided something in a scope, so that a trace at that time may have missed it."""
    with _LOCK:
        return _RETIRED.get(scope, by_others_than) is not by_others_than


def _texts(scopes: Sequence[Any]) -> tuple[str, ...]:
    # In their order: jax adds `8*floordiv(s, 8) == s` behind `mod(s, 8) == 0`, and drops the second that it reads.
    return tuple(dict.fromkeys(str(c.debug_str) for scope in scopes for c in scope._explicit_constraints))


def _scope_with(texts: tuple[str, ...]) -> Any:
    return _satisfiable(_export.SymbolicScope(texts))


def moved_to_scope(leaf: Any, scope: Any) -> Any:
    """Return a leaf with its symbolic dimensions moved to a scope."""
    shape = _shape(leaf)
    if not any(is_symbolic(extent) and extent.scope is not scope for extent in shape):
        return leaf
    # jax reads back what it prints.
    extents = tuple(
        _export.symbolic_shape(str(extent), scope=scope)[0] if is_symbolic(extent) else extent for extent in shape
    )
    return leaf.update(shape=extents) if hasattr(leaf, "update") else jax.ShapeDtypeStruct(extents, leaf.dtype)


def dimensions_at(leaf: Any, values: Mapping[str, int]) -> Any:
    """Return a leaf with integers for its symbolic dimensions, from values of the symbols."""
    shape = _shape(leaf)
    if not any(map(is_symbolic, shape)):
        return leaf
    counts = map(count, shape)
    extents = tuple(c.value(values) if isinstance(c, Polynomial) else c for c in counts)
    return jax.ShapeDtypeStruct(extents, leaf.dtype)


def _shape(leaf: Any) -> tuple[Any, ...]:
    shape: Any = getattr(leaf, "shape", ())
    return cast("tuple[Any, ...]", shape) if isinstance(shape, tuple) else ()
