"""The count of StableHLO as jax emitted it: XLA's own number for each operation alone, and its sums over a program."""

from __future__ import annotations

import dataclasses
from collections import Counter
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src.interpreters import mlir
from jaxlib.mlir import ir

import costax
from corpus import Program, made, parameters, programs
from costax import _jax
from costax.compare.emitted import EmittedReplay, emitted
from costax.hlo import read_bytes, replay_module
from costax.hlo.records import Module
from costax.program.targets import load_target

EXAMPLES = Path(__file__).parents[2] / "examples"


def spec(*shape: int, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


MATRIX, VECTOR, INTEGERS = spec(8, 8), spec(16), spec(6, dtype=jnp.int32)


def lowered(fn, *args):
    return jax.jit(fn, keep_unused=True).lower(*args)


def emitted_by(fn, *args) -> EmittedReplay:
    """The count, of which every operation converts and whose instructions add up to the total."""
    found = emitted(lowered(fn, *args))
    check(found)
    return found


def check(found: EmittedReplay):
    assert not found.unconverted
    for name in ("flops", "transcendentals", "bytes"):
        assert sum(getattr(row, name) for row in found.instructions) == getattr(found.total, name)
    names = [ins.name for computation in found.module.computations.values() for ins in computation.instructions]
    assert len(names) == len(set(names))


def work(replay) -> tuple[int, int]:
    return replay.total.flops, replay.total.transcendentals


def xla(fn, *args) -> tuple[int, int]:
    """What jax reports: XLA's count of the converted program."""
    cost = lowered(fn, *args).cost_analysis()
    return int(cost.get("flops", 0)), int(cost.get("transcendentals", 0))


def parsed(body: str, returned: str, kind: str = "tensor<8xf32>"):
    """A stand-in for a `Lowered` with a module that jax would not emit; `%a` is its argument."""
    with mlir.make_ir_context():
        module = ir.Module.parse(f"""func.func public @main(%a: tensor<8xf32>) -> {kind} {{
            {body}
            return {returned} : {kind}
        }}""")
    return SimpleNamespace(compiler_ir=lambda dialect: module)


# Programs of one operation, or few, into which the conversion folds nothing.
OPERATIONS = {
    "dot": (lambda x: x @ x.T, MATRIX),
    "add": (jnp.add, MATRIX, MATRIX),
    "compare_select": (lambda x, y: jnp.where(x < y, x, y), VECTOR, VECTOR),
    "convert": (lambda x: x.astype(jnp.int8), VECTOR),
    "exp": (jnp.exp, VECTOR),
    "erf": (lax.erf, VECTOR),
    "erf_inv": (lax.erf_inv, VECTOR),
    "digamma": (lax.digamma, VECTOR),
    "bessel": (lax.bessel_i1e, VECTOR),
    "square": (lax.square, VECTOR),
    "sort": (lax.sort, MATRIX),
    "sort_pair": (lambda x, y: lax.sort((x, y), num_keys=2), VECTOR, VECTOR),
    "top_k": (lambda x: lax.top_k(x, 3), MATRIX),
    "reduce": (lambda x: x.sum(0), MATRIX),
    "reduce_pair": (lambda x: lax.argmax(x, 1, jnp.int32), MATRIX),
    "cumsum": (lambda x: lax.cumsum(x, 1), MATRIX),
    "reduce_captures_nothing": (lambda x: lax.reduce(x, 0.0, lambda a, b: a + b * 3.0, (0,)), MATRIX),
    "reduce_calls": (lambda x: lax.reduce(x, 0.0, lambda a, b: jax.jit(jnp.maximum)(a, b) * b, (0,)), MATRIX),
    "window": (lambda x: lax.reduce_window(x, -np.inf, lax.max, (3, 3), (1, 1), "SAME"), MATRIX),
    "convolution": (lambda x, k: lax.conv(x, k, (1, 1), "SAME"), spec(2, 3, 9, 9), spec(4, 3, 3, 3)),
    "gather": (lambda x, i: x.at[i].get(mode="clip"), MATRIX, INTEGERS),
    "scatter": (lambda x, i, y: x.at[i].add(y, mode="drop"), MATRIX, INTEGERS, spec(6, 8)),
    "dynamic_slice": (lambda x, i: lax.dynamic_slice(x, (i, i), (2, 3)), MATRIX, spec(dtype=jnp.int32)),
    "fft": (jnp.fft.fft2, spec(8, 8, dtype=jnp.complex64)),
    "complex": (lambda x, y: lax.imag(lax.complex(x, y) * lax.complex(y, x)), VECTOR, VECTOR),
    "qr": (jnp.linalg.qr, MATRIX),
    "callback": (lambda x: jax.pure_callback(lambda y: y, x, x), VECTOR),
    "callback_without_results": (lambda x: (jax.debug.print("{}", x), jnp.sin(x))[1], VECTOR),
    "rng": (lambda x: lax.rng_uniform(x[0], x[1], (7,)), VECTOR),
    "barrier": (lambda x, y: lax.optimization_barrier((x, y)), VECTOR, VECTOR),
    "composite": (lambda x: lax.composite(lambda y: jnp.tanh(y) * y, "my.gelu")(x), VECTOR),
    "precision": (lambda x: lax.reduce_precision(x, 5, 3), VECTOR),
}


def mlp(params, x):
    for w, b in params:
        x = jnp.tanh(x @ w + b)
    return (x**2).sum()


def shared(x):
    silu = jax.jit(lambda y: y * jnp.tanh(y))
    return silu(silu(x)) + x


@jax.custom_vjp
def clipped(x):
    return jnp.sin(x)


clipped.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.maximum(g, -1.0) * jnp.cos(x),))

# Programs of several operations, calls and control flow, into which the conversion folds nothing.
WHOLE_PROGRAMS = {
    "mlp": (mlp, [(spec(8, 5), spec(5)), (spec(5, 3), spec(3))], spec(7, 8)),
    "scan": (lambda x, ys: lax.scan(lambda c, y: (c * jnp.sin(y), c + y), x, ys), spec(5), spec(4, 5)),
    "while": (lambda x: lax.while_loop(lambda y: y.sum() < 3, lambda y: y * y + 1, x), VECTOR),
    "cond": (lambda p, x: lax.cond(p, lambda: jnp.sin(x) + 1, lambda: x * x * x), spec(dtype=jnp.bool_), VECTOR),
    "shared": (shared, VECTOR),
    "softmax": (lambda x: jax.nn.softmax(x @ x), MATRIX),
    "solve": (jnp.linalg.solve, MATRIX, spec(8)),
}

KEY = jax.eval_shape(lambda: jax.random.key(0))

# Programs into which the conversion folds: FLOPs and transcendentals that are not in the HLO.
FOLDED = {
    # The exponential of a constant.
    "constant_operand": (lambda x: x + jnp.exp(jnp.ones(16)), (VECTOR,), (0, 16)),
    "two_transposes": (lambda x: x.T.T * 2, (MATRIX,), (0, 0)),
    "zero": (lambda x: lax.add(x, lax.full((8, 8), 0, jnp.int32)), (spec(8, 8, dtype=jnp.int32),), (64, 0)),
    # The value of the loss, and the sums that it is made of.
    "dead": (
        jax.grad(lambda x: lax.scan(lambda c, _: (jnp.tanh(c @ c), None), x, length=3)[0].sum()),
        (MATRIX,),
        (63, 0),
    ),
    # A window of 2 x 2 at 16 places, and the sum of the 16 maxima.
    "dead_window": (
        jax.grad(lambda x: lax.reduce_window(x, -np.inf, lax.max, (2, 2), (2, 2), "VALID").sum()),
        (MATRIX,),
        (16 * 3 + 15, 0),
    ),
    # The counter of each element times 1.
    "random_bits": (lambda k: jax.random.bits(k, (9,)), (KEY,), (9, 0)),
    "random_normal": (lambda k: jax.random.normal(k, (9,)), (KEY,), (9, 0)),
    # The branch that the index names takes the place of the conditional: x * x + 1 costs 32, and sin and cos nothing.
    "constant_index": (
        lambda x: lax.switch(np.int32(1), [jnp.sin, lambda y: y * y + 1, jnp.cos], x),
        (VECTOR,),
        (1, 16),
    ),
}


@pytest.mark.parametrize("case", OPERATIONS)
def test_an_operation_costs_what_xla_counts_for_it_alone(case):
    fn, *args = OPERATIONS[case]
    assert work(emitted_by(fn, *args)) == xla(fn, *args)


@pytest.mark.parametrize("case", WHOLE_PROGRAMS)
def test_a_program_into_which_the_conversion_folds_nothing_costs_what_xla_counts(case):
    fn, *args = WHOLE_PROGRAMS[case]
    assert work(emitted_by(fn, *args)) == xla(fn, *args)


def test_numbers_worked_out_by_hand():
    # A dot of 2 FLOPs for each multiply-accumulate, a bias, tanh, a square and a sum.
    forward = emitted_by(mlp, [(spec(8, 5), spec(5))], spec(7, 8))
    assert work(forward) == (2 * 7 * 8 * 5 + 7 * 5 + 7 * 5 + (7 * 5 - 1), 7 * 5)
    # silu runs at two call sites.
    assert work(emitted_by(shared, VECTOR)) == (16 + 2 * 16, 2 * 16)
    # The body once, whatever the number of trips; the counters of the loop and of its scan, and the comparison.
    loop = emitted_by(lambda x: lax.fori_loop(0, 100, lambda i, y: y * y, x), VECTOR)
    assert work(loop) == (16 + 2 + 1, 0)


def test_a_conditional_costs_the_maximum_of_each_property_over_its_branches():
    found = emitted_by(*WHOLE_PROGRAMS["cond"])
    # Index: bool to int32. Branches: sin (16 transcendentals) and + 1 (16 FLOPs); two products (32 FLOPs).
    assert work(found) == (1 + 2 * 16, 16)
    (conditional,) = (x for x in found.module.entry.instructions if x.opcode == "conditional")
    assert len(conditional.called) == 2
    assert sorted(call.times[:2] for call in found.calls(found.module.entry)) == [(0, 1), (1, 0)]


def test_a_shared_function_is_one_computation_with_two_calls():
    found = emitted_by(shared, VECTOR)
    callees = [call.callee for call in found.calls(found.module.entry)]
    assert len(callees) == 2
    assert callees[0] is callees[1]
    assert found.times[callees[0].id] == (2, 2, 2)
    assert list(found.module.computations)[-1] == found.module.entry.id


@pytest.mark.parametrize("case", FOLDED)
def test_what_the_conversion_folds_is_counted(case):
    fn, args, folded = FOLDED[case]
    ours, theirs = work(emitted_by(fn, *args)), xla(fn, *args)
    assert (ours[0] - theirs[0], ours[1] - theirs[1]) == folded


def equation_by_equation(fn, *args) -> np.ndarray:
    """What XLA counts for every equation alone, all of whose operands are arguments."""

    def alone(eqn) -> np.ndarray:
        for name in ("jaxpr", "call_jaxpr"):
            if name in eqn.params and eqn.primitive.name in ("jit", "pjit", "custom_jvp_call", "custom_vjp_call"):
                return total(eqn.params[name])
        operands = [spec(*x.aval.shape, dtype=x.aval.dtype) for x in eqn.invars]
        return np.array(xla(lambda *values: eqn.primitive.bind(*values, **eqn.params), *operands))

    def total(jaxpr) -> np.ndarray:
        return sum((alone(eqn) for eqn in jaxpr.eqns), start=np.zeros(2, int))

    return total(jax.make_jaxpr(fn)(*args))


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        pytest.param(jax.grad(mlp), ([(spec(8, 5), spec(5)), (spec(5, 3), spec(3))], spec(7, 8)), id="mlp_gradient"),
        pytest.param(jax.grad(lambda x: clipped(x).sum()), (VECTOR,), id="custom_vjp"),
        pytest.param(lambda x: jax.nn.softmax(x @ x.T) @ jnp.sort(x), (MATRIX,), id="attention"),
    ],
)
def test_a_program_costs_the_sum_of_its_equations_alone(fn, args):
    assert work(emitted_by(fn, *args)) == tuple(equation_by_equation(fn, *args))


def test_without_one_operation_the_total_is_smaller_by_its_cost():
    whole = parsed("%0 = stablehlo.tanh %a : tensor<8xf32>\n %1 = stablehlo.add %0, %a : tensor<8xf32>", "%1")
    part = parsed("%0 = stablehlo.tanh %a : tensor<8xf32>", "%0")
    dead = parsed("%0 = stablehlo.tanh %a : tensor<8xf32>\n %1 = stablehlo.add %0, %a : tensor<8xf32>", "%0")
    assert work(emitted(whole)) == (8, 8)
    assert work(emitted(part)) == (0, 8)
    assert work(emitted(dead)) == (8, 8)


def test_every_operation_that_is_left_out_lowers_the_total(monkeypatch):
    stage = lowered(*WHOLE_PROGRAMS["mlp"])
    program, whole = _jax.emitted_program(stage), emitted(stage)
    costs = {row.instruction.name: row.own for row in whole.instructions}
    body, lower = program.functions["main"], 0
    for i, operation in enumerate(body.operations):
        part = body._replace(operations=(*body.operations[:i], *body.operations[i + 1 :]))
        short = dataclasses.replace(program, functions={"main": part})
        monkeypatch.setattr(_jax, "emitted_program", lambda _, short=short: short)
        missing = [ours - theirs for ours, theirs in zip(whole.total, emitted(stage).total, strict=True)]
        lower += any(missing)
        assert tuple(missing) in costs.values() or operation.kind is None
    assert lower == len(costs)


def test_operations_that_differ_in_an_attribute_or_a_region_are_counted_apart():
    def both(x):
        wide, narrow = (lax.reduce_window(x, 0.0, lax.add, (n,), (1,), "VALID") for n in (4, 2))
        return wide, narrow, lax.reduce(x, 0.0, lax.add, (0,)), lax.reduce(x, 0.0, lambda a, b: a * b + b, (0,))

    assert work(emitted_by(both, VECTOR)) == (13 * 3 + 15 * 1 + 15 + 15 * 2, 0)


def test_an_operation_that_xla_does_not_convert_is_reported_and_the_others_are_counted():
    body = "%0 = arith.addf %a, %a : tensor<8xf32>\n %1 = stablehlo.tanh %0 : tensor<8xf32>"
    found = emitted(parsed(body, "%1"))
    assert work(found) == (0, 8)
    assert list(found.unconverted) == ["addf.2"]
    assert "arith.addf" in found.unconverted["addf.2"]


def test_an_operation_that_needs_a_constant_is_converted_with_it():
    body = """%c = stablehlo.constant dense<[1]> : tensor<1xi32>
        %z = stablehlo.constant dense<0.0> : tensor<f32>
        %0 = stablehlo.dynamic_pad %a, %z, %c, %c, %c
            : (tensor<8xf32>, tensor<f32>, tensor<1xi32>, tensor<1xi32>, tensor<1xi32>) -> tensor<17xf32>"""
    stage = parsed(body, "%0", "tensor<17xf32>")
    with pytest.raises((ValueError, _jax.XlaError)):
        _jax.isolated_hlo(_jax.emitted_program(stage), [0])
    found = emitted(stage)
    check(found)
    assert found.module.entry.root.opcode == "pad"
    assert found.module.entry.root.shape.dims == (17,)


@pytest.mark.parametrize("name", ["lgamma", "digamma", "erf", "erfc", "erf_inv", "asin", "sinh", "tan", "bessel_i1e"])
def test_an_operation_of_chlo_costs_what_xla_expands_it_to(name):
    stage = parsed(f"%0 = chlo.{name} %a : tensor<8xf32> -> tensor<8xf32>", "%0")
    bytecode = mlir.module_to_bytecode(stage.compiler_ir("stablehlo"))
    alone = import_module("jaxlib._jax").mlir.mlir_module_to_xla_computation(bytecode)
    cost = _jax.xla_cost(alone.as_serialized_hlo_module_proto())
    found = emitted(stage)
    check(found)
    assert work(found) == (cost.get("flops", 0), cost.get("transcendentals", 0))


def test_a_custom_call_counts_minus_one_with_or_without_results():
    body = "stablehlo.custom_call @print(%a) {has_side_effect = true} : (tensor<8xf32>) -> ()"
    assert emitted(parsed(body, "%a")).total[:2] == (-1, 0)
    body = "%0 = stablehlo.custom_call @work(%a) : (tensor<8xf32>) -> tensor<8xf32>"
    found = emitted(parsed(body, "%0"))
    assert found.total[:2] == (-1, 0)
    assert found.module.entry.root.opcode == "custom-call"
    assert found.module.entry.root.custom_call_target == "work"


def test_instructions_have_operands_users_and_the_shapes_of_hlo():
    found = emitted_by(lambda x, y: lax.sort((x @ y, y), num_keys=1), MATRIX, MATRIX)
    (call,) = (x for x in found.module.entry.instructions if x.opcode in ("sort", "call"))
    assert [part.dims for part in call.shape.parts] == [(8, 8), (8, 8)]
    (dot,) = (x for x in found.module.entry.instructions if x.opcode == "dot")
    assert dot.operands == found.module.entry.parameters
    assert dot.users == [call]
    assert dot.shape.dims == (8, 8)
    assert dot.dot_dimensions.lhs_contracting == (1,)


def key_in_a_branch_of_a_loop(i, key):
    def added(n, total):
        return total + lax.cond(i > n, lambda: jax.random.uniform(key), lambda: 1.0)

    return lax.fori_loop(0, 3, added, 0.0)


def test_what_a_region_takes_from_outside_is_an_operand_of_its_operation():
    found = emitted_by(key_in_a_branch_of_a_loop, 1, jax.random.key(0))
    (loop,) = (x for x in found.module.entry.instructions if x.opcode == "while")
    # jax marks the sharding of a key before the loop, and only a branch in the body reads it.
    (marked,) = (x for x in found.module.entry.instructions if x.opcode == "custom-call")
    assert marked in loop.operands
    assert marked.users == [loop]


def test_the_key_of_a_branch_has_an_owner():
    assert costax.compare(key_in_a_branch_of_a_loop)(1, jax.random.key(0)).unexplained == ()
    drawn = lambda i, key: lax.switch(i, [lambda k: jax.random.uniform(k), lambda k: 0.0], key)  # noqa: E731
    assert costax.compare(drawn)(1, jax.random.key(0)).unexplained == ()


def test_the_body_of_a_loop_comes_before_its_condition():
    found = emitted_by(*WHOLE_PROGRAMS["while"])
    (loop,) = (x for x in found.module.entry.instructions if x.opcode == "while")
    body, condition = loop.called
    assert {"multiply", "add"} <= {x.opcode for x in body.instructions}
    assert "compare" in {x.opcode for x in condition.instructions}
    assert loop.known_trip_count is None


def counting_names(module: Module, times) -> set[str]:
    opcodes = ("parameter", "constant", "broadcast", "tuple", "get-tuple-element")
    instructions = (x for key in times for x in module.computations[key].instructions)
    return {x.op_name for x in instructions if x.opcode not in opcodes}


SHORT = [each for each in programs(devices=jax.device_count()) if not each.long_to_compile]


@pytest.mark.parametrize("program", parameters(SHORT))
def test_the_count_of_a_program_is_at_least_that_of_its_hlo(program: Program):
    fn, args = made(program)
    stage = jax.jit(fn).lower(*args)
    ours, theirs = emitted(stage), replay_module(read_bytes(_jax.hlo_of(stage)))
    check(ours)
    assert ours.total.flops >= theirs.total.flops
    assert ours.total.transcendentals >= theirs.total.transcendentals
    # XLA joins the names of operations that it merges by ";".
    merged = {name for name in counting_names(theirs.module, theirs.times) if ";" not in name}
    assert merged <= counting_names(ours.module, ours.times)


@pytest.mark.slow
def test_a_training_step_of_a_transformer():
    target = load_target(f"{EXAMPLES / 'gpt2.py'}:gpt2_train_step")
    stage = jax.jit(target.fn).lower(*target.args, **target.kwargs)
    found, hlo = emitted(stage), replay_module(read_bytes(_jax.hlo_of(stage)))
    check(found)
    dots = Counter(row.instruction.opcode for row in found.instructions)["dot"]
    assert dots == Counter(row.instruction.opcode for row in hlo.instructions)["dot"]
    assert hlo.total.flops < found.total.flops < 1.001 * hlo.total.flops
    assert hlo.total.transcendentals == found.total.transcendentals
