"""Known values: constant propagation of integer scalars through the equations and calls of a program.

The bound of a `while` is often computed by a few equations and passed through calls:

    n = jnp.int32(10); jax.jit(lambda n: lax.fori_loop(0, 2 * n, ...))(n)

A `CallFrame` is a jaxpr at one call site. It finds the value of a variable by going backwards: to the equation that
defines it, whose traits say how numbers fold (2 * n = 20); from an input of the jaxpr to the operand of the call
(n = 10); from a result of a call into its body. A value that would not fit its dtype is unknown, because arithmetic
that overflows is not modelled.

`known` is a number that is the same in every run of the jaxpr, and may be a polynomial. `values` are arrays, and differ
from run to run of a kernel: `program_id` and what is computed from it, from constants and from the blocks of constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy

from costax import _jax
from costax.core import dtypes
from costax.core.cost import Count
from costax.core.equation import Body, Equation
from costax.core.polynomial import Polynomial, at_least
from costax.core.source_lines import nearest_line
from costax.errors import Uncountable, Undecided
from costax.rules.array_values import constant, evaluate, evaluates, is_evaluable
from costax.rules.known_blocks import KnownBlock
from costax.rules.registry import REGISTRY, Rule
from costax.rules.runs import Array, Runs, fits_memory, is_array

# Untyped, because arrays have any dtype and any number of dimensions here.
np: Any = numpy


class Rules(Protocol):
    """Rules by primitive name: a dictionary, or the registry."""

    def get(self, name: str, /) -> Rule | None:
        """Return the rule of a primitive, or None."""
        ...


class CallFrame:
    """A jaxpr at one call site: the equation that calls it, and the frame of that equation.

    rules: by primitive name; they return the bodies of calls and have the traits of primitives.

    The frame records which facts about its caller were used. input_values: by position, the values of inputs that were
    asked for, None where the caller does not fix them; input_arrays: the same for `values`. path_used: whether the path
    was used. What is derived in the frame holds for every call of the same jaxpr with equal input values and runs and,
    if the path was used, the same path.
    runs: the runs of the jaxpr inside a kernel, or None.
    """

    __slots__ = (
        "_arrays",
        "_constants",
        "_definitions",
        "_positions",
        "_values",
        "axis_sizes",
        "body",
        "eqn",
        "input_arrays",
        "input_values",
        "jaxpr",
        "own_package",
        "parent",
        "path",
        "path_used",
        "rules",
        "runs",
    )

    def __init__(
        self,
        jaxpr: Any,
        path: tuple[str, ...] = (),
        parent: CallFrame | None = None,
        eqn: Any = None,
        body: Body | None = None,
        axis_sizes: Mapping[str, int] | None = None,
        rules: Rules | None = None,
        own_package: str = "",
    ) -> None:
        """Take an open or closed jaxpr, and its caller: path, frame, equation and the body that the equation runs.

        own_package: the installed package whose lines are the user's, as `costax._jax.source` takes it.
        """
        self.jaxpr: _jax.Jaxpr = _jax.opened(jaxpr)
        # Constants that are operands of the caller are no values: jax 0.12 keeps the tracers that they were.
        constants = () if body is not None and body.constants else _jax.constants(jaxpr)
        self._constants = dict(zip(self.jaxpr.constvars, constants, strict=False))
        self._definitions: dict[Any, Any] | None = None
        self._positions: dict[Any, int] | None = None
        self._values: dict[Any, int | None] = {}
        self._arrays: dict[Any, Any] = {}
        self.path: tuple[str, ...] = path
        self.parent: CallFrame | None = parent
        self.eqn: Any = eqn
        self.body: Body | None = body
        self.axis_sizes: Mapping[str, int] = axis_sizes or {}
        self.input_values: dict[int, int | None] = {}
        self.input_arrays: dict[int, Any] = {}
        self.runs: Runs | None = _runs(body, parent)
        self.path_used: bool = False
        inherited = parent.rules if parent is not None else None
        self.rules: Rules = rules or inherited or REGISTRY
        self.own_package: str = parent.own_package if parent is not None else own_package

    def known(self, atom: Any) -> int | None:
        """Return the value of an atom if it is an integer scalar that the program determines, else None."""
        if _jax.is_literal(atom):
            return _jax.integer_value(atom.val)
        # A stack instead of recursion: a scalar may depend on a chain of thousands of equations, more than Python's
        # recursion limit. A variable stays on the stack until its operands have values: for y = (a + 1) * 2 the stack
        # grows to y, a + 1, a, and they get their values from the top.
        pending = [] if atom in self._values else [atom]
        while pending:
            definition = self._definition(pending[-1])
            needed = definition.invars if definition is not None and self._folds(definition) else ()
            unseen = [v for v in needed if not _jax.is_literal(v) and v not in self._values]
            if unseen:
                pending.extend(unseen)
            else:
                var = pending.pop()
                self._values[var] = self._value(var, definition)
        return self._values[atom]

    def input_value(self, position: int) -> int | None:
        """Return the value of an input of the jaxpr if it is known and the same in every run of the body, else None."""
        if position not in self.input_values:
            self.input_values[position] = self._caller_value(position)
        return self.input_values[position]

    def values(self, atom: Any) -> Any:
        """Return the value of an atom in every run, an array or the known block of a reference; None if it is unknown.

        It has the dimensions of the runs, and then those of the atom; see `costax.rules.runs`.
        """
        if _jax.is_literal(atom):
            return constant(atom.val, atom.aval)
        # As in `known`, a stack instead of recursion.
        pending = [] if atom in self._arrays else [atom]
        while pending:
            definition = self._definition(pending[-1])
            needed = definition.invars if definition is not None and evaluates(definition.primitive.name) else ()
            unseen = [
                v for v in needed if not _jax.is_literal(v) and v not in self._arrays and _is_evaluable(pending[-1])
            ]
            if unseen:
                pending.extend(unseen)
            else:
                var = pending.pop()
                self._arrays[var] = self._array(var, definition)
        return self._arrays[atom]

    def input_array(self, position: int) -> Any:
        """Return the value of an input of the jaxpr in every run; None if it is not known."""
        if position not in self.input_arrays:
            self.input_arrays[position] = self._caller_array(position)
        return self.input_arrays[position]

    def equation(self, rule: Rule, eqn: Any) -> Equation:
        """Return an equation of the jaxpr as its body rule receives it; known values are derived on access."""
        inputs, outputs = (tuple(_jax.operand(v.aval) for v in side) for side in (eqn.invars, eqn.outvars))
        known, values = Derived(self.known, eqn.invars), Derived(self.values, eqn.invars)
        return Equation(rule.name, inputs, outputs, _jax.params(eqn), self.axis_sizes, known, values, self.runs)

    def definition(self, atom: Any) -> Any:
        """Return the equation that defines a variable, or None."""
        return None if _jax.is_literal(atom) else self._definition(atom)

    def is_size(self, eqn: Any) -> bool:
        """Say whether an equation only casts a symbolic dimension; where shapes are numbers jax does not emit it."""
        if eqn.primitive.name != "convert_element_type":
            return False
        definition = self.definition(eqn.invars[0])
        return definition is not None and (definition.primitive.name == "dim_as_value" or self.is_size(definition))

    def source(self, eqn: Any) -> str:
        """Return the user's file and line of an equation, or of the nearest call around it that has one."""
        line = _jax.source(eqn, self.own_package)
        return line if self.parent is None else nearest_line(line, self.parent.source(self.eqn))

    def _definition(self, var: Any) -> Any:
        if self._definitions is None:
            self._definitions = {out: eqn for eqn in self.jaxpr.eqns for out in eqn.outvars}
        return self._definitions.get(var)

    def position(self, atom: Any) -> int | None:
        """Return which input of the jaxpr an atom is, or None. The constants of a call follow its inputs."""
        if self._positions is None:
            constants = self.jaxpr.constvars if self.body is not None and self.body.constants else ()
            self._positions = {var: position for position, var in enumerate((*self.jaxpr.invars, *constants))}
        return None if _jax.is_literal(atom) else self._positions.get(atom)

    def _value(self, var: Any, definition: Any) -> int | None:
        operand = _jax.operand(var.aval)
        representable = dtypes.integers(operand.dtype)
        if operand.shape != () or representable is None:
            return None
        if var in self._constants:
            return _jax.integer_value(self._constants[var])
        if definition is not None:
            value = self._from_equation(definition, var)
        else:
            position = self.position(var)
            value = None if position is None else self.input_value(position)
        return value if value is not None and fits(value, representable) else None

    def _caller_value(self, position: int) -> int | None:
        if self.parent is None or self.body is None:
            return None
        source = self._source(self.body, position)
        return None if source is None else self.parent.known(self.eqn.invars[source])

    def _source(self, body: Body, position: int) -> int | None:
        """Return which operand of the caller an input of the body is in every run, or None."""
        inputs = len(self.jaxpr.invars)
        if position >= inputs:
            return body.constants[position - inputs]
        # Of a loop only the first `fixed` inputs are the same in every run; the carry and the slices change.
        fixed = len(body.inputs) if body.fixed is None else body.fixed
        return body.inputs[position] if position < min(fixed, len(body.inputs)) else None

    def _array(self, var: Any, definition: Any) -> Any:
        if not _is_evaluable(var):
            return None
        if var in self._constants:
            return constant(self._constants[var], var.aval)
        if definition is not None:
            return self._array_from_equation(definition, var)
        position = self.position(var)
        return None if position is None else self.input_array(position)

    def _caller_array(self, position: int) -> Any:
        inputs = self.jaxpr.invars
        if self.body is not None and self.body.values is not None and position < len(inputs):
            return self.body.values(position)
        if self.parent is None or self.body is None:
            return None
        source = self._source(self.body, position)
        if source is None:
            return None
        atom, var = self.eqn.invars[source], (*inputs, *self.jaxpr.constvars)[position]
        if _shape(atom) != _shape(var):
            return None
        value = self.parent.values(atom)
        return value if self.runs is not None or _is_same_in_every_run(value, atom) else None

    def _array_from_equation(self, eqn: Any, var: Any) -> Any:
        name = eqn.primitive.name
        rule = self.rules.get(name)
        if rule is None:
            return None
        if rule.higher_order:
            return self._array_from_bodies(rule, eqn, eqn.outvars.index(var))
        if name in ("program_id", "axis_index"):
            axis = eqn.params["axis" if name == "program_id" else "axis_name"]
            return None if self.runs is None else self.runs.index(axis)
        if name == "query_cluster_cancel":
            # A block that finds no more work stops. Counted so, each block does the work of its own point of the grid,
            # which is the work of all blocks together, whichever of them does it.
            return np.zeros((), bool) if var.aval.dtype == bool else None
        if name in ("get", "masked_load"):
            block, part = self.values(eqn.invars[0]), _jax.loaded_part(eqn)
            return block.load(part, self._index) if isinstance(block, KnownBlock) and part is not None else None
        if rule.traits.identity and len(eqn.invars) == 1:
            return self.values(eqn.invars[0])
        operands = [self.values(atom) for atom in eqn.invars] if evaluates(name) else [None]
        if any(not is_array(value) for value in operands):
            return None
        return evaluate(name, _jax.params(eqn), operands, [_shape(v) for v in eqn.invars], var.aval)

    def _index(self, atom: Any) -> Any:
        return np.asarray(atom) if isinstance(atom, int) else self.values(atom)

    def _array_from_bodies(self, rule: Rule, eqn: Any, position: int) -> Any:
        """Return a result of a call, of a loop, or of branches of which it is known which one a run takes."""
        bodies = bodies_of(rule, eqn, self)
        if bodies and bodies[-1].results is not None:
            return bodies[-1].results(position)
        call = called_body(bodies)
        taken = [call] if call is not None else [body for body in bodies if body.times != 0]
        if call is None and any(body.runs is None or body.loop or body.choice for body in taken):
            return None
        result: Array = None
        for body in taken:
            inner = CallFrame(body.jaxpr, self.path, self, eqn, body, self.axis_sizes)
            if len(inner.jaxpr.outvars) != len(eqn.outvars):
                return None
            value = inner.values(inner.jaxpr.outvars[position])
            if not is_array(value):
                return None
            if result is None:
                result = value
                continue
            mask = _behind(cast("Runs", body.runs).mask, len(_shape(eqn.outvars[position])))
            if not fits_memory(mask.shape, value.shape, result.shape):
                return None
            result = np.where(mask, value, result)
        return result

    def _from_equation(self, eqn: Any, var: Any) -> int | None:
        rule = self.rules.get(eqn.primitive.name)
        if rule is None:
            return None
        if eqn.primitive.name == "dim_as_value":
            return _jax.params(eqn)["dim"]
        if rule.higher_order:
            return self._from_call(rule, eqn, eqn.outvars.index(var))
        if not self._folds(eqn):
            return None
        operands = [value for value in map(self.known, eqn.invars) if value is not None]
        if len(operands) < len(eqn.invars):
            return None
        if rule.traits.preserves:
            # A cast to bool does not keep the number: 2 becomes 1.
            return int(operands[0] != 0) if _jax.operand(var.aval).dtype == "bool" else operands[0]
        return _folded(rule.traits.fold, operands)

    def _from_call(self, rule: Rule, eqn: Any, position: int) -> int | None:
        """Return the value of a result of a call, from its body; None if the equation is no call."""
        body = called_body(bodies_of(rule, eqn, self))
        if body is None:
            return None
        inner = CallFrame(body.jaxpr, self.path, self, eqn, body, self.axis_sizes)
        if len(inner.jaxpr.outvars) != len(eqn.outvars):
            return None
        return inner.known(inner.jaxpr.outvars[position])

    def _folds(self, eqn: Any) -> bool:
        """Say whether the result of an equation is known where its operands are."""
        rule = self.rules.get(eqn.primitive.name)
        if rule is None or rule.higher_order:
            return False
        return rule.traits.fold is not None or (rule.traits.preserves and len(eqn.invars) == 1)


def bodies_of(rule: Rule, eqn: Any, frame: CallFrame) -> Sequence[Body]:
    """Return the bodies that an equation runs in a frame; none where its rule cannot decide."""
    equation = frame.equation(rule, eqn)
    try:
        return cast("Sequence[Body]", rule.function(equation))
    except (Uncountable, Undecided):
        return ()


def called_body(bodies: Sequence[Body]) -> Body | None:
    """Return the body of a call, or None: a call runs one body, once, on whole operands.

    A `cond` whose index is known is a call too: the bodies of the other branches run 0 times.
    """
    running = [body for body in bodies if body.times != 0]
    if len(running) != 1:
        return None
    body = running[0]
    return None if body.times != 1 or body.loop or body.choice or body.fused or body.per_device else body


def _folded(fold: Callable[..., Any] | None, operands: Sequence[Any]) -> Any:
    """Return fold(*operands) if that is an integer or a polynomial, else None."""
    if fold is None:
        return None
    try:
        value = fold(*operands)
    except (TypeError, ArithmeticError, ValueError, Undecided):
        return None
    return value if isinstance(value, int | Polynomial) and not isinstance(value, bool) else None


def fits(value: Count, representable: range) -> bool:
    """Say whether a value is in the range of a dtype.

    A polynomial is taken for the size of an array, which every index dtype can hold; it must only not be negative.
    """
    return at_least(value, max(representable.start, 0)) if isinstance(value, Polynomial) else value in representable


class Derived(Sequence[Any]):
    """What is known of some atoms, by position, derived on access."""

    def __init__(self, of: Callable[[Any], Any], atoms: Sequence[Any]) -> None:
        """Take the function that derives it, and the atoms."""
        self._of, self._atoms = of, atoms

    def __getitem__(self, position: Any) -> Any:
        """Return what is known of the atom at a position, or None."""
        return self._of(self._atoms[position])

    def __len__(self) -> int:
        """Return the number of atoms."""
        return len(self._atoms)

    def __iter__(self) -> Iterator[Any]:
        """Yield what is known, in order."""
        return map(self._of, self._atoms)


def _runs(body: Body | None, parent: CallFrame | None) -> Runs | None:
    if body is None or body.runs is not None or parent is None:
        return body and body.runs
    # A call runs its body as often as it is called itself. The rule says how often another body runs.
    is_call = body.times in (0, 1) and not (body.loop or body.choice or body.per_device)
    return parent.runs if is_call else None


def _shape(atom: Any) -> tuple[Any, ...]:
    return tuple(getattr(atom.aval, "shape", ()))


def _is_evaluable(var: Any) -> bool:
    inner = getattr(var.aval, "inner_aval", var.aval)
    return inner is not var.aval or is_evaluable(_shape(var), getattr(inner, "dtype", None))


def _is_same_in_every_run(value: Any, atom: Any) -> bool:
    if isinstance(value, KnownBlock):
        return all(start.size == 1 for start in value.starts)
    return value is not None and bool(value.size == np.prod(value.shape[value.ndim - len(_shape(atom)) :]))


def _behind(mask: Array, rank: int) -> Array:
    """Return a mask of runs with dimensions of 1 for those of an array, which are behind the dimensions of the runs."""
    return mask.reshape((*mask.shape, *(1,) * rank))
