"""StableHLO read as a jaxpr: each operation under the name and parameters that jax gives the same operation.

An exported function is StableHLO and no longer a jaxpr. Read this way, the rules of the jaxpr's primitives count it.
An operation that has no name here keeps its own, `stablehlo.something`, so that it is missed by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from costax import _jax
from costax.core.equation import Operand
from costax.rules.higher_order.stablehlo_operations import Operation, Parameters, translated


@dataclass(eq=False, slots=True)
class Variable:
    """A value; `aval` is its shape and dtype."""

    aval: Operand


@dataclass(eq=False, slots=True)
class Instruction:
    """One operation, with the attributes of a jaxpr's equation."""

    primitive: SimpleNamespace
    invars: list[Any]
    outvars: list[Variable]
    params: Parameters
    source_info: Any


@dataclass(eq=False, slots=True)
class Computation:
    """A function or a region, with the attributes of a jaxpr."""

    invars: list[Variable]
    eqns: list[Instruction] = field(default_factory=list[Instruction])
    outvars: list[Any] = field(default_factory=list[Any])
    constvars: tuple[()] = ()

    @property
    def jaxpr(self) -> Computation:
        """The open form of itself, as a closed jaxpr has one."""
        return self


class Reader:
    """Reads the functions of a module; one that is called from several places is read once."""

    def __init__(self, module: Any) -> None:
        """Take a StableHLO module."""
        # Operations stay valid only while their module lives.
        self._module = module
        self._functions = {_jax.attribute(op, "sym_name"): op for op in module.body.operations}
        self._read: dict[str, Computation] = {}

    def function(self, name: str) -> Computation:
        """Return a function of the module."""
        if name not in self._read:
            self._read[name] = self._block(self._functions[name].regions[0].blocks[0], {})
        return self._read[name]

    def region(self, op: Any, index: int, env: Mapping[Any, Any]) -> Computation:
        """Return a region of an operation; `env` holds the values around it, which it may use."""
        return self._block(op.regions[index].blocks[0], env)

    def _block(self, block: Any, outer: Mapping[Any, Any]) -> Computation:
        env = dict(outer)
        computation = Computation([self._bind(env, argument) for argument in block.arguments])
        for op in block.operations:
            name = op.operation.name
            if name in ("stablehlo.return", "func.return"):
                computation.outvars = [env[value] for value in op.operands]
            elif name == "stablehlo.constant":
                value = _jax.constant(op)
                bound = self._bind(env, op.results[0])
                env[op.results[0]] = bound if value is None else _jax.literal(value, bound.aval)
            else:
                computation.eqns.append(self._instruction(op, env))
        return computation

    def _instruction(self, op: Any, env: dict[Any, Any]) -> Instruction:
        primitive, params = translated(Operation(op, self.function, lambda index: self.region(op, index, env)))
        inputs = [env[value] for value in op.operands]
        results = [self._bind(env, value) for value in op.results]
        return Instruction(SimpleNamespace(name=primitive), inputs, results, params, _jax.place(op))

    def _bind(self, env: dict[Any, Any], value: Any) -> Variable:
        env[value] = variable = Variable(_jax.tensor(value))
        return variable
