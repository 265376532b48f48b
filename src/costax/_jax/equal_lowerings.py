"""Which jaxprs jax lowers to the same program, without lowering them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from jax._src.interpreters import mlir as _mlir

from costax._jax.jaxprs import constants, is_jaxpr, opened


def differ_in_names_alone(a: Any, b: Any) -> bool:
    """Say whether two jaxprs have the same equations, with other names of scopes and functions, and jax lowers them.

    jax's own rules write these names into source locations, so the two programs are the same. A rule of another library
    may do something else with them; False then means that the two must be lowered to know.
    """
    return _Pair().jaxprs(a, b)


class _Pair:
    def __init__(self) -> None:
        self._lowered_by_jax: dict[Any, bool] = {}
        # The jaxprs stay alive as long as those that are compared.
        self._same: set[tuple[int, int]] = set()

    def jaxprs(self, a: Any, b: Any) -> bool:
        if (id(a), id(b)) in self._same:
            return True
        x, y = opened(a), opened(b)
        same = (
            _are(constants(a), constants(b))
            and all(_are(getattr(x, part), getattr(y, part)) for part in ("constvars", "invars", "outvars"))
            and len(x.eqns) == len(y.eqns)
            and all(map(self._equations, x.eqns, y.eqns))
        )
        if same:
            self._same.add((id(a), id(b)))
        return same

    def _equations(self, a: Any, b: Any) -> bool:
        return (
            a.primitive is b.primitive
            and self._is_lowered_by_jax(a.primitive)
            and _are(a.invars, b.invars)
            and _are(a.outvars, b.outvars)
            and a.ctx is b.ctx
            and self._params(a.params, b.params)
        )

    def _params(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
        if a.keys() != b.keys():
            return False
        return all(x is b[key] or self._values(x, b[key]) or (key == "name" and "jaxpr" in a) for key, x in a.items())

    def _values(self, a: Any, b: Any) -> bool:
        if is_jaxpr(a) and is_jaxpr(b):
            return self.jaxprs(a, b)
        if isinstance(a, tuple | list) and type(cast("Any", a)) is type(b):
            parts, others = cast("Sequence[Any]", a), cast("Sequence[Any]", b)
            pairs = zip(parts, others, strict=False)
            return len(parts) == len(others) and all(x is y or self._values(x, y) for x, y in pairs)
        return False

    def _is_lowered_by_jax(self, primitive: Any) -> bool:
        known = self._lowered_by_jax.get(primitive)
        if known is None:
            known = self._lowered_by_jax[primitive] = _has_rules_of_jax(primitive)
        return known


def _are(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Say whether two sequences hold the same objects."""
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))


def _has_rules_of_jax(primitive: Any) -> bool:
    """Say whether all rules that lower a primitive are jax's own, and there is one."""
    tables: list[Mapping[Any, Any]] = [vars(_mlir)["_lowerings"], *vars(_mlir)["_platform_specific_lowerings"].values()]
    rules: list[Any] = [getattr(table[primitive], "rule", table[primitive]) for table in tables if primitive in table]
    return bool(rules) and all(_module(rule).partition(".")[0] == "jax" for rule in rules)


def _module(rule: Any) -> str:
    """Return the name of the module that defines a rule, which `partial` may wrap."""
    while isinstance(rule, partial):
        rule = cast("Any", rule).func
    return getattr(rule, "__module__", None) or ""
