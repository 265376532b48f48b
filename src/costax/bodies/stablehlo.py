"""StableHLO read as a jaxpr: each operation under the name and parameters that jax gives the same operation.

An exported function is StableHLO and no longer a jaxpr. Read this way, the rules of the jaxpr's primitives count it.
An operation that has no name here keeps its own, `stablehlo.something`, so that it is missed by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from costax import _jax
from costax.equation import Operand

Parameters = dict[str, Any]


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
        operation = Operation(op, [env[value] for value in op.operands], env, self)
        primitive, params = _translated(operation)
        inputs = operation.inputs
        results = [self._bind(env, value) for value in op.results]
        return Instruction(SimpleNamespace(name=primitive), inputs, results, params, _jax.place(op))

    def _bind(self, env: dict[Any, Any], value: Any) -> Variable:
        env[value] = variable = Variable(_jax.tensor(value))
        return variable


@dataclass(slots=True)
class Operation:
    """An operation of StableHLO in its surroundings."""

    op: Any
    inputs: list[Any]
    env: Mapping[Any, Any]
    reader: Reader

    @property
    def name(self) -> str:
        """The full name, such as `stablehlo.add`."""
        return self.op.operation.name

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute as a plain value."""
        return _jax.attribute(self.op, name, default)

    def region(self, index: int) -> Computation:
        """Return a region as a computation."""
        return self.reader.region(self.op, index, self.env)

    def out(self) -> Operand:
        """Return the shape of the first result."""
        return _jax.tensor(self.op.results[0])


# Operations whose rule needs no parameters, by jax's name where it is another.
_SAME_NAME = """
    abs acos acosh add after_all and asin asinh atan atan2 atanh bessel_i1e broadcast_in_dim cbrt ceil cholesky clamp
    complex concatenate cosh create_token digamma dynamic_slice dynamic_update_slice erf erf_inv erfc floor gather imag
    iota is_finite lgamma log logistic not optimization_barrier or pad polygamma real reduce_precision reshape rsqrt
    shift_left shift_right_arithmetic shift_right_logical sign sinh slice sqrt tan tanh transpose xor zeta
"""
_PLAIN: Mapping[str, str] = {
    **{name: name for name in _SAME_NAME.split()},
    "bitcast_convert": "bitcast_convert_type",
    "convert": "convert_element_type",
    "cosine": "cos",
    "count_leading_zeros": "clz",
    "divide": "div",
    "exponential": "exp",
    "exponential_minus_one": "expm1",
    "log_plus_one": "log1p",
    "maximum": "max",
    "minimum": "min",
    "multiply": "mul",
    "negate": "neg",
    "next_after": "nextafter",
    "partition_id": "axis_index",
    "popcnt": "population_count",
    "power": "pow",
    "remainder": "rem",
    "replica_id": "axis_index",
    "reverse": "rev",
    "round_nearest_afz": "round",
    "round_nearest_even": "round",
    "select": "select_n",
    "sine": "sin",
    "subtract": "sub",
}


def _translated(o: Operation) -> tuple[str, Parameters]:
    dialect, _, short = o.name.partition(".")
    if o.name in _SHAPED:
        return _SHAPED[o.name](o)
    if dialect in ("stablehlo", "chlo") and short in _PLAIN:
        return _PLAIN[short], {}
    return o.name, {}


def _dot_general(o: Operation) -> tuple[str, Parameters]:
    d = o.attribute("dot_dimension_numbers")
    contracting = tuple(d.lhs_contracting_dimensions), tuple(d.rhs_contracting_dimensions)
    batching = tuple(d.lhs_batching_dimensions), tuple(d.rhs_batching_dimensions)
    return "dot_general", {"dimension_numbers": (contracting, batching)}


def _convolution(o: Operation) -> tuple[str, Parameters]:
    d = o.attribute("dimension_numbers")
    spatial = len(d.input_spatial_dimensions)
    return "conv_general_dilated", {
        "dimension_numbers": SimpleNamespace(
            lhs_spec=(d.input_batch_dimension, d.input_feature_dimension, *d.input_spatial_dimensions),
            rhs_spec=(
                d.kernel_output_feature_dimension,
                d.kernel_input_feature_dimension,
                *d.kernel_spatial_dimensions,
            ),
            out_spec=(d.output_batch_dimension, d.output_feature_dimension, *d.output_spatial_dimensions),
        ),
        "window_strides": o.attribute("window_strides", (1,) * spatial),
        "padding": o.attribute("padding", ((0, 0),) * spatial),
        "lhs_dilation": o.attribute("lhs_dilation", (1,) * spatial),
        "rhs_dilation": o.attribute("rhs_dilation", (1,) * spatial),
        "feature_group_count": o.attribute("feature_group_count", 1),
        "batch_group_count": o.attribute("batch_group_count", 1),
    }


def _compare(o: Operation) -> tuple[str, Parameters]:
    return str(o.attribute("comparison_direction")).lower(), {}


def _reduce(o: Operation) -> tuple[str, Parameters]:
    return "reduce", {"jaxpr": o.region(0)}


def _reduce_window(o: Operation) -> tuple[str, Parameters]:
    return "reduce_window", {"jaxpr": o.region(0), "window_dimensions": o.attribute("window_dimensions")}


def _select_and_scatter(o: Operation) -> tuple[str, Parameters]:
    return "select_and_scatter", {
        "select_jaxpr": o.region(0),
        "scatter_jaxpr": o.region(1),
        "window_dimensions": o.attribute("window_dimensions", (1,) * len(o.out().shape)),
    }


def _scatter(o: Operation) -> tuple[str, Parameters]:
    combiner = o.region(0)
    kinds = {eqn.primitive.name for eqn in combiner.eqns}
    name = f"scatter-{kinds.pop()}" if len(kinds) == 1 and kinds <= {"add", "sub", "mul", "min", "max"} else "scatter"
    return ("scatter-add" if name == "scatter" and combiner.eqns else name), {"update_jaxpr": combiner}


def _while(o: Operation) -> tuple[str, Parameters]:
    jaxprs = {"cond_jaxpr": o.region(0), "body_jaxpr": o.region(1)}
    return "while", {**jaxprs, "cond_nconsts": 0, "body_nconsts": 0}


def _case(o: Operation) -> tuple[str, Parameters]:
    return "cond", {"branches": tuple(o.region(i) for i in range(len(o.op.regions)))}


def _if(o: Operation) -> tuple[str, Parameters]:
    # jax orders branches by the predicate's value; StableHLO puts the true one first.
    return "cond", {"branches": (o.region(1), o.region(0))}


def _call(o: Operation) -> tuple[str, Parameters]:
    name = o.attribute("callee")
    return "jit", {"jaxpr": o.reader.function(name), "name": name}


def _composite(o: Operation) -> tuple[str, Parameters]:
    """Take an operation that the exporter wrapped, else the decomposition."""
    dialect, _, short = o.attribute("name").partition(".")
    if dialect in ("chlo", "mhlo") and (known := _wrapped(o, short)):
        return known
    name = o.attribute("decomposition")
    return "jit", {"jaxpr": o.reader.function(name), "name": name}


def _wrapped(o: Operation, short: str) -> tuple[str, Parameters] | None:
    if short in ("top_k", "topk"):
        return "top_k", {"k": o.out().shape[-1]}
    return (_PLAIN[short], {}) if short in _PLAIN else None


def _sort(o: Operation) -> tuple[str, Parameters]:
    return "sort", {"dimension": o.attribute("dimension")}


def _fft(o: Operation) -> tuple[str, Parameters]:
    return "fft", {"fft_type": o.attribute("fft_type"), "fft_lengths": o.attribute("fft_length")}


def _rng_bit_generator(o: Operation) -> tuple[str, Parameters]:
    return "rng_bit_generator", {"algorithm": SimpleNamespace(name=f"RNG_{o.attribute('rng_algorithm')}")}


def _triangular_solve(o: Operation) -> tuple[str, Parameters]:
    return "triangular_solve", {name: o.attribute(name) for name in ("left_side", "unit_diagonal")}


def _collective(name: str) -> Callable[[Operation], tuple[str, Parameters]]:
    def translated(o: Operation) -> tuple[str, Parameters]:
        return name, {"axes": (), "axis_name": (), "axis_index_groups": o.attribute("replica_groups")}

    return translated


def _custom_call(o: Operation) -> tuple[str, Parameters]:
    target: str = o.attribute("call_target_name")
    wrapped = _wrapped(o, target.removeprefix("mhlo.")) if target.startswith("mhlo.") else None
    lapack = re.fullmatch(r"lapack_[sdcz](\w+?)(_ffi)?", target)
    if lapack and lapack[1] in _LAPACK:
        return _LAPACK[lapack[1]], _lapack_options(o)
    if target in ("Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"):
        return "sharding_constraint", {}
    if "python" in target and "callback" in target:
        return "pure_callback", {}
    return wrapped or ("ffi_call", {"target_name": target})


_LAPACK: Mapping[str, str] = {
    "potrf": "cholesky",
    "getrf": "lu",
    "geqrf": "geqrf",
    "geqp3": "geqp3",
    "orgqr": "householder_product",
    "ungqr": "householder_product",
    "trsm": "triangular_solve",
    "syevd": "eigh",
    "heevd": "eigh",
    "gesdd": "svd",
}


def _lapack_options(o: Operation) -> Parameters:
    options: Mapping[str, Any] = o.attribute("mhlo.backend_config", {})
    mode = chr(options.get("mode", ord("A")))
    return {
        "unit_diagonal": options.get("diag") == ord("U"),
        "compute_uv": mode != "N",
        "full_matrices": mode == "A",
    }


_SHAPED: Mapping[str, Callable[[Operation], tuple[str, Parameters]]] = {
    "stablehlo.dot_general": _dot_general,
    "stablehlo.convolution": _convolution,
    "stablehlo.compare": _compare,
    "stablehlo.reduce": _reduce,
    "stablehlo.reduce_window": _reduce_window,
    "stablehlo.select_and_scatter": _select_and_scatter,
    "stablehlo.scatter": _scatter,
    "stablehlo.while": _while,
    "stablehlo.case": _case,
    "stablehlo.if": _if,
    "func.call": _call,
    "stablehlo.composite": _composite,
    "stablehlo.sort": _sort,
    "chlo.top_k": lambda o: ("top_k", {"k": o.out().shape[-1]}),
    "stablehlo.fft": _fft,
    "stablehlo.rng_bit_generator": _rng_bit_generator,
    "stablehlo.triangular_solve": _triangular_solve,
    "stablehlo.all_reduce": _collective("psum"),
    "stablehlo.all_gather": _collective("all_gather"),
    "stablehlo.reduce_scatter": _collective("reduce_scatter"),
    "stablehlo.all_to_all": _collective("all_to_all"),
    "stablehlo.custom_call": _custom_call,
}
