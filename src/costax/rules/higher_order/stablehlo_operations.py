"""Translate the operations of StableHLO into the primitives and parameters that jax has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from costax import _jax
from costax.core.equation import Operand
from costax.rules.lowered_names import COLLECTIVE_PRIMITIVES, routine_params, routine_primitive

Parameters = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of StableHLO.

    function: reads a function of the module, by name. region: reads a region of the operation, by index.
    """

    op: Any
    function: Callable[[str], Any]
    region: Callable[[int], Any]

    @property
    def name(self) -> str:
        """The full name, such as `stablehlo.add`."""
        return self.op.operation.name

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute as a plain value, or `default` if the operation does not have it."""
        return _jax.attribute(self.op, name, default)

    def out(self) -> Operand:
        """Return the shape and dtype of the first result."""
        return _jax.tensor(self.op.results[0])


def translate(o: Operation) -> tuple[str, Parameters]:
    """Return the name of the primitive and its parameters; an operation without a primitive keeps its own name."""
    dialect, _, short = o.name.partition(".")
    if o.name in _WITH_PARAMS:
        return _WITH_PARAMS[o.name](o)
    if dialect in ("stablehlo", "chlo") and short in _WITHOUT_PARAMS:
        return _WITHOUT_PARAMS[short], {}
    return o.name, {}


# Operations whose rules need no parameters: first those with the same name in jax, then those with another one.
_SAME_NAME = """
    abs acos acosh add after_all and asin asinh atan atan2 atanh bessel_i1e broadcast_in_dim cbrt ceil cholesky clamp
    complex concatenate cosh create_token digamma dynamic_slice dynamic_update_slice erf erf_inv erfc floor gather imag
    iota is_finite lgamma log logistic not optimization_barrier or pad polygamma real reduce_precision reshape rsqrt
    shift_left shift_right_arithmetic shift_right_logical sign sinh slice sqrt tan tanh transpose xor zeta
"""
_WITHOUT_PARAMS: Mapping[str, str] = {
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
    # jax orders branches by the value of the predicate (false, true); StableHLO has the true branch first.
    return "cond", {"branches": (o.region(1), o.region(0))}


def _call(o: Operation) -> tuple[str, Parameters]:
    name = o.attribute("callee")
    return "jit", {"jaxpr": o.function(name), "name": name}


def _composite(o: Operation) -> tuple[str, Parameters]:
    """The operation that the exporter wrapped into a composite, if it has a primitive; else the decomposition."""
    dialect, _, short = o.attribute("name").partition(".")
    if dialect in ("chlo", "mhlo") and (known := _wrapped(o, short)):
        return known
    name = o.attribute("decomposition")
    return "jit", {"jaxpr": o.function(name), "name": name}


def _wrapped(o: Operation, short: str) -> tuple[str, Parameters] | None:
    if short in ("top_k", "topk"):
        return "top_k", {"k": o.out().shape[-1]}
    return (_WITHOUT_PARAMS[short], {}) if short in _WITHOUT_PARAMS else None


def _sort(o: Operation) -> tuple[str, Parameters]:
    return "sort", {"dimension": o.attribute("dimension")}


def _fft(o: Operation) -> tuple[str, Parameters]:
    return "fft", {"fft_type": o.attribute("fft_type"), "fft_lengths": o.attribute("fft_length")}


def _rng_bit_generator(o: Operation) -> tuple[str, Parameters]:
    return "rng_bit_generator", {"algorithm": SimpleNamespace(name=f"RNG_{o.attribute('rng_algorithm')}")}


def _triangular_solve(o: Operation) -> tuple[str, Parameters]:
    return "triangular_solve", {name: o.attribute(name) for name in ("left_side", "unit_diagonal")}


def _collective(name: str) -> Callable[[Operation], tuple[str, Parameters]]:
    def translate(o: Operation) -> tuple[str, Parameters]:
        return name, {"axes": (), "axis_name": (), "axis_index_groups": o.attribute("replica_groups")}

    return translate


def _custom_call(o: Operation) -> tuple[str, Parameters]:
    target: str = o.attribute("call_target_name")
    wrapped = _wrapped(o, target.removeprefix("mhlo.")) if target.startswith("mhlo.") else None
    if routine := routine_primitive(target):
        return routine, routine_params(o.attribute("mhlo.backend_config", {}))
    if target in ("Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"):
        return "sharding_constraint", {}
    if "python" in target and "callback" in target:
        return "pure_callback", {}
    return wrapped or ("ffi_call", {"target_name": target})


_WITH_PARAMS: Mapping[str, Callable[[Operation], tuple[str, Parameters]]] = {
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
    "stablehlo.custom_call": _custom_call,
    # collective_permute lists pairs of devices but not how many devices there are, so that the mean over the devices
    # is unknown. It keeps its name, and is reported as a primitive without a rule.
    **{
        f"stablehlo.{opcode.replace('-', '_')}": _collective(primitive)
        for opcode, primitive in COLLECTIVE_PRIMITIVES.items()
        if primitive != "ppermute"
    },
}
