"""StableHLO read as a jaxpr: each operation under the name and parameters that jax gives the same operation.

An exported function is StableHLO, not a jaxpr. With jax's names, the rules of the jaxpr's primitives count it. An
operation without a name in jax keeps its own, `stablehlo.something`, and is reported as a primitive without a rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from costax import _jax
from costax.core.equation import Operand
from costax.rules.higher_order.stablehlo_operations import Operation, Parameters, translate


@dataclass(eq=False, slots=True)
class StablehloVariable:
    """A value of StableHLO, with the attribute of a jaxpr's variable: `aval`, its shape and dtype."""

    aval: Operand


@dataclass(eq=False, slots=True)
class StablehloEquation:
    """An operation of StableHLO, with the attributes of a jaxpr's equation."""

    primitive: SimpleNamespace
    invars: list[Any]
    outvars: list[StablehloVariable]
    params: Parameters
    source_info: Any


@dataclass(eq=False, slots=True)
class StablehloFunction:
    """A function or region of StableHLO, with the attributes of a jaxpr."""

    invars: list[StablehloVariable]
    eqns: list[StablehloEquation] = field(default_factory=list[StablehloEquation])
    outvars: list[Any] = field(default_factory=list[Any])
    constvars: tuple[()] = ()

    @property
    def jaxpr(self) -> StablehloFunction:
        """Itself: a closed jaxpr has its open jaxpr under this name."""
        return self


class StablehloReader:
    """A reader of the functions of a StableHLO module; it reads each function once."""

    def __init__(self, module: Any) -> None:
        """Take a StableHLO module of MLIR."""
        # Keep the module: its operations are valid only as long as it lives.
        self._module = module
        self._functions = {_jax.attribute(op, "sym_name"): op for op in module.body.operations}
        self._read: dict[str, StablehloFunction] = {}

    def function(self, name: str) -> StablehloFunction:
        """Return a function of the module by name."""
        if name not in self._read:
            self._read[name] = self._block(self._functions[name].regions[0].blocks[0], {})
        return self._read[name]

    def region(self, op: Any, index: int, env: Mapping[Any, Any]) -> StablehloFunction:
        """Return a region of an operation; `env` has the values of the surrounding code, which the region may use."""
        return self._block(op.regions[index].blocks[0], env)

    def _block(self, block: Any, outer: Mapping[Any, Any]) -> StablehloFunction:
        env = dict(outer)
        function = StablehloFunction([self._bind(env, argument) for argument in block.arguments])
        for op in block.operations:
            name = op.operation.name
            if name in ("stablehlo.return", "func.return"):
                function.outvars = [env[value] for value in op.operands]
            elif name == "stablehlo.constant":
                value = _jax.constant(op)
                bound = self._bind(env, op.results[0])
                env[op.results[0]] = bound if value is None else _jax.literal(value, bound.aval)
            else:
                function.eqns.append(self._equation(op, env))
        return function

    def _equation(self, op: Any, env: dict[Any, Any]) -> StablehloEquation:
        primitive, params = translate(Operation(op, self.function, lambda index: self.region(op, index, env)))
        inputs = [env[value] for value in op.operands]
        results = [self._bind(env, value) for value in op.results]
        return StablehloEquation(
            SimpleNamespace(name=primitive), inputs, results, params, _jax.operation_source_info(op)
        )

    def _bind(self, env: dict[Any, Any], value: Any) -> StablehloVariable:
        env[value] = variable = StablehloVariable(_jax.tensor(value))
        return variable
