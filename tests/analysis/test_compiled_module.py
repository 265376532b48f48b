"""A module of HLO as a program: its kernels, its memory, and predictions, against XLA's figures and counts by hand."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax import _jax
from costax.analysis.compiled_module import CompiledModule, analyze_file

ORACLE = Path(__file__).resolve().parents[3] / "shared/oracles/a100_step/after_optimizations.hlo.pb.xz"


def loss(weights, x):
    def layer(c, w):
        with jax.named_scope("layer"):
            return jnp.tanh(c @ w), None

    y = lax.scan(layer, x, weights)[0]
    with jax.named_scope("head"):
        return jnp.mean(y * y)


def step(weights, x):
    gradient = jax.grad(loss)(weights, x)
    with jax.named_scope("update"):
        return weights - 0.1 * gradient


WEIGHTS = jax.ShapeDtypeStruct((5, 64, 64), jnp.float32)
X = jax.ShapeDtypeStruct((32, 64), jnp.float32)


@pytest.fixture(scope="module")
def lowered():
    return jax.jit(step, donate_argnums=0).lower(WEIGHTS, X)


@pytest.fixture(scope="module")
def compiled(lowered):
    return lowered.compile()


@pytest.fixture(scope="module")
def oracle() -> CompiledModule:
    if not ORACLE.exists():
        pytest.skip("the oracle a100_step is not beside the repository")
    return analyze_file(ORACLE)


def test_kernels_have_all_the_work_that_runs(compiled):
    module = costax.analyze(compiled)()
    kernels = module.kernels()
    # Three products a layer, of 2 x 32 x 64 x 64 FLOPs: forward, and the gradients of both operands.
    assert sum(sum(k.matmul.values()) * k.times for k in kernels) == 3 * 5 * 2 * 32 * 64 * 64
    assert sum(k.flops * k.times for k in kernels) == module.executed.flops
    assert sum(sum(k.transcendental.values()) * k.times for k in kernels) == module.executed.transcendentals
    assert {k.opcode for k in kernels} >= {"fusion"}
    assert "fusions" in module.kernel_source


def test_kernels_say_the_layer_the_direction_and_the_line(compiled):
    kernels = costax.analyze(compiled)().kernels()
    products = [k for k in kernels if k.contractions]
    assert {k.scope for k in products} == {("layer",)}
    assert sum(k.times for k in products if k.direction == "forward") == 5
    assert sum(k.times for k in products if k.direction == "backward") == 10
    assert all(k.source.partition(":")[0].endswith("test_compiled_module.py") for k in products)
    assert {k.direction for k in kernels if k.scope == ("update",)} == {"outside the gradient"}


def test_before_optimisation_each_instruction_is_a_kernel(lowered):
    module = costax.analyze(lowered)()
    # An instruction of a function that the forward and the backward pass call is one in each.
    places = [(k.instruction, k.direction) for k in module.kernels()]
    assert len(places) == len(set(places))
    assert not module.is_optimized
    assert "not optimised" in module.kernel_source
    assert sum(sum(k.matmul.values()) * k.times for k in module.kernels()) == 3 * 5 * 2 * 32 * 64 * 64
    assert "not optimised" in costax.predict(module, "h100-sxm").assumptions[0]


def test_a_file_and_its_stage_are_the_same_program(compiled, tmp_path):
    path = tmp_path / "step.hlo.pb"
    path.write_bytes(_jax.hlo_of(compiled))
    one, other = (
        costax.predict(costax.analyze(path)(), "h100-sxm"),
        costax.predict(costax.analyze(compiled)(), "h100-sxm"),
    )
    assert [part.kernel for part in one.parts] == [part.kernel for part in other.parts]
    assert one.flops == other.flops == costax.analyze(path)().executed.flops


def test_the_sums_of_a_prediction_are_those_of_its_parts(compiled):
    predicted = costax.predict(costax.analyze(compiled)(), "h100-sxm")
    for sums in (predicted.by_scope(), predicted.by_opcode(), predicted.by_source(), predicted.by_direction()):
        assert sum(sums.values()) == pytest.approx(sum(part.seconds for part in predicted.parts))
    assert "unfused" not in predicted.traffic
    assert predicted.traffic["compulsory"] == 2 * WEIGHTS.size * 4 + X.size * 4


def test_the_memory_of_a_compiled_program_is_that_of_xla(compiled):
    module, sizes = costax.analyze(compiled)(), compiled.memory_analysis()
    parts = module.memory_use().parts
    assert parts["arguments"] == sizes.argument_size_in_bytes
    assert parts["temporaries"] == sizes.temp_size_in_bytes
    assert module.memory.aliased == sizes.alias_size_in_bytes == WEIGHTS.size * 4
    assert module.memory.source == "XLA's buffer assignment"
    assert costax.fits(module, "h100-sxm")
    largest = module.live_at_peak(2)
    assert {b.source for b in largest if b.why.startswith("an argument")} <= {"weights", "x"}


def test_what_a_module_does_not_know_is_said(compiled):
    module = costax.analyze(compiled)()
    with pytest.raises(costax.errors.InputError, match="which of its arguments are weights"):
        module.what_if(weights="int8")
    assert module.analysis.parameters is None
    assert costax.fits(module, "h100-sxm").changes == []


@pytest.mark.slow
@pytest.mark.once
def test_a_module_that_is_not_split_yet_says_so():
    path = ORACLE.with_name("before_optimizations.hlo.pb.xz")
    if not path.exists():
        pytest.skip("the oracle a100_step is not beside the repository")
    module = analyze_file(path)
    assert module.unsplit == 4
    assert "over its 4 devices" in module.kernel_source
    # The exact sum; XLA adds up in float32 and reports 37,239,358,750,720.
    assert module.analysis.total.ops == module.executed.flops + module.executed.transcendentals
    assert module.float32.flops == 37_239_358_750_720


@pytest.mark.parametrize("option", [{"branches": "min"}, {"params_argnums": 0}])
def test_options_that_do_nothing_for_a_stage_are_refused(compiled, option):
    with pytest.raises(costax.errors.InputError, match=f"{next(iter(option))} does not apply"):
        costax.analyze(compiled, **option)


@pytest.mark.slow
@pytest.mark.once
def test_the_step_of_production_is_a_program(oracle):
    memory = oracle.memory
    assert (memory.allocations, memory.needed) == (1_323, 16_761_245_927)
    assert (memory.parts["arguments"], memory.temporaries) == (376_927_268, 16_384_178_784)
    assert memory.padding is not None
    assert 0 < memory.padding < 2**20
    assert sum(x.nbytes for x in memory.alive if x.kind == "temporaries") == memory.live_temporaries
    largest = oracle.live_at_peak(3)
    assert {b.nbytes for b in largest} == {8192 * 50304 * 2}
    predicted = costax.predict(oracle, "a100-sxm-40")
    assert predicted.flops == 9_353_037_967_954
    assert predicted.device.matmul_peak("bf16")[1].value == 312e12
    kernels = oracle.kernels()
    assert sum(k.flops * k.times for k in kernels) == 9_353_037_967_954
    layers = {k.scope[5] for k in kernels if len(k.scope) > 5 and k.scope[5].startswith("x_layers")}
    assert layers == {f"x_layers_{i}" for i in range(12)}
