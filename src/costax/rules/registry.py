"""The registry of rules: the cost of leaf primitives, and the bodies of higher-order primitives.

Built-in rules are registered with the decorators that users use. A primitive has one rule; a second rule is an error
that names the first one, unless it is registered with `override=True`. A primitive that costs nothing is declared with
`free`, with the reason.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from costax.core.cost import ZERO, Cost, Count
from costax.core.display import Printed
from costax.core.equation import Body, Equation
from costax.errors import RuleCollisionError
from costax.rules.traits import NO_TRAITS, UNDECLARED, Traits

CostFunction = Callable[[Equation], Cost]
BodyFunction = Callable[[Equation], Sequence[Body]]
Traffic = Callable[[Equation], tuple[Count, Count]]
_C = TypeVar("_C", bound=CostFunction)
_B = TypeVar("_B", bound=BodyFunction)


def whole_operands(eqn: Equation) -> tuple[Count, Count]:
    """Bytes of every input, repeats included, and of every output. Source: XLA HandlePreprocess."""
    return sum(x.nbytes for x in eqn.inputs), sum(x.nbytes for x in eqn.outputs)


def no_traffic(eqn: Equation) -> tuple[Count, Count]:
    """Return (0, 0): the primitive is an identity, or its bodies count the bytes."""
    return 0, 0


@dataclass(frozen=True, slots=True, repr=False)
class Rule(Printed):
    """A rule, and the file and line of its definition.

    traffic: returns (bytes read, bytes written). law: the docstring. free: the reason why a primitive costs nothing.
    traits: of the primitive, or UNDECLARED.
    """

    name: str
    function: CostFunction | BodyFunction
    traffic: Traffic
    law: str
    file: str
    line: int
    higher_order: bool = False
    free: str = ""
    traits: Traits = UNDECLARED

    def __repr__(self) -> str:
        """Return the name and the first sentence of the rule, and where it is."""
        return f"Rule({self.name!r}: {self.free or self.law.partition(chr(10))[0]} {self.file}:{self.line})"


class Registry:
    """Rules by primitive name."""

    def __init__(self, rules: Mapping[str, Rule] | None = None) -> None:
        """Start from other rules, or from none."""
        self._rules: dict[str, Rule] = dict(rules or {})

    def add(self, rule: Rule, *, override: bool) -> None:
        """Register a rule under its name.

        Raises RuleCollisionError if the name has a rule and `override` is false. The same function of the same file
        may be registered again, because a module may be reloaded and a notebook cell may be run again.
        """
        first = self._rules.get(rule.name)
        if first and override and rule.traits is UNDECLARED:
            # A rule without traits changes the cost of the primitive and not its traits.
            rule = replace(rule, traits=first.traits)
        if first and not override and not _same_definition(first, rule):
            raise RuleCollisionError(rule.name, first=f"{first.file}:{first.line}", second=f"{rule.file}:{rule.line}")
        self._rules[rule.name] = rule

    def get(self, name: str) -> Rule | None:
        """Return the rule of a primitive, or None."""
        return self._rules.get(name)

    def snapshot(self) -> dict[str, Rule]:
        """Return all rules by name, sorted."""
        return dict(sorted(self._rules.items()))

    @contextmanager
    def restored(self) -> Generator[None]:
        """Put the rules back as they are now when the block ends."""
        before = dict(self._rules)
        try:
            yield
        finally:
            self._rules = before


def _same_definition(first: Rule, second: Rule) -> bool:
    def definition(rule: Rule) -> tuple[str, str, str]:
        # The file of a notebook cell differs each time that the cell is run.
        file = "" if rule.function.__module__ == "__main__" else rule.file
        return file, rule.function.__module__, rule.function.__qualname__

    return definition(first) == definition(second)


REGISTRY: Final = Registry()


def _rule(
    name: str,
    function: CostFunction | BodyFunction,
    traffic: Traffic,
    traits: Traits,
    *,
    higher_order: bool,
) -> Rule:
    code = inspect.unwrap(function).__code__
    law = inspect.cleandoc(function.__doc__ or "")
    return Rule(name, function, traffic, law, code.co_filename, code.co_firstlineno, higher_order, traits=traits)


def cost_rule(
    *names: str, traffic: Traffic = whole_operands, traits: Traits = UNDECLARED, override: bool = False
) -> Callable[[_C], _C]:
    """Register the cost of leaf primitives: decorate a pure function `Equation -> Cost`.

    Args:
        names: The primitives.
        traffic: Returns (bytes read, bytes written); by default all bytes of the operands and results.
        traits: The properties of the primitives, for the analyses of memory and kernels; without traits they are
            taken for library calls, which read and write whole buffers.
        override: Whether the rule replaces another one.

    Raises RuleCollisionError if a name has a rule and `override` is false.

    >>> @cost_rule("my_primitive")
    ... def my_primitive(eqn):
    ...     return Cost.arithmetic(eqn.out.dtype, 2 * eqn.out.size)
    """

    def register(function: _C) -> _C:
        for name in names:
            REGISTRY.add(_rule(name, function, traffic, traits, higher_order=False), override=override)
        return function

    return register


def body_rule(
    *names: str, traffic: Traffic = no_traffic, traits: Traits = NO_TRAITS, override: bool = False
) -> Callable[[_B], _B]:
    """Register the bodies of higher-order primitives: decorate a function `Equation -> [Body(jaxpr, times)]`.

    Args:
        names: The primitives.
        traffic: Returns (bytes read, bytes written); by default none beside those of the bodies.
        traits: The properties of the primitives that do not follow from the bodies, which show calls, loops and
            branches.
        override: Whether the rule replaces another one.

    Raises RuleCollisionError if a name has a rule and `override` is false.
    """

    def register(function: _B) -> _B:
        for name in names:
            REGISTRY.add(_rule(name, function, traffic, traits, higher_order=True), override=override)
        return function

    return register


def free(*names: str, because: str, traits: Traits, traffic: Traffic = whole_operands) -> None:
    """Declare that primitives do no arithmetic, with the reason and their traits. Their bytes are counted as usual."""
    frame = inspect.currentframe()
    caller = frame.f_back if frame else None
    assert caller is not None
    for name in names:

        def nothing(eqn: Equation) -> Cost:
            return ZERO

        definition = (caller.f_code.co_filename, caller.f_lineno)
        rule = Rule(name, nothing, traffic, because, *definition, free=because, traits=traits)
        REGISTRY.add(rule, override=False)
