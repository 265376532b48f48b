"""Loops that XLA's partitioner makes of a product: their trip counts, and what is said of those that have none."""

from __future__ import annotations

import re

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import costax
from aot_targets import needs
from costax import _jax
from costax.compare import comparison as module_under_test
from costax.compare.compile import XlaStage
from costax.hlo.module_analysis import analyze_bytes
from costax.report import load_any
from costax.report.prediction import to_record as to_prediction_record
from costax.report.waterfall import to_record
from hlo_windowed import CONDITIONS, DEVICES, PRODUCT, WEIGHTS, WHOLE, windowed

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

DATA = "copy(data)"


def mesh(n):
    return AbstractMesh((n,), ("fsdp",), axis_types=(AxisType.Auto,))


def array(shape, *spec, devices=DEVICES, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh(devices), P(*spec)))


def mlp(x, w):
    with jax.named_scope("mlp"):
        return x @ w


def products(analysis):
    """FLOPs that the products of a module execute."""
    return sum(x.cost.executed.flops for x in analysis.instruction_costs if x.instruction.opcode == "dot")


@pytest.fixture
def compiled_as(monkeypatch):
    """Compare the product with a module of ours in place of the compiled one."""

    def compare(**options):
        def compile_stage(lowered, *_):
            name = re.search(r'op_name="([^"]*dot_general[^"]*)"', _jax.hlo_text(lowered.hlo))[1]
            hlo = _jax.hlo_from_text(windowed(name=name, **options))
            return XlaStage(hlo, None, {}, 0.0, lowered.meshes, devices=DEVICES)

        monkeypatch.setattr(module_under_test, "compile_stage", compile_stage)
        args = array((32, 16), "fsdp"), array((16, 32), "fsdp")
        return costax.compare(jax.jit(mlp), passes=False)(*args)

    return compare


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("dtype", ["u32", "s32"])
@pytest.mark.parametrize("unrolled", [1, 2])
def test_a_product_in_steps_executes_the_whole_product(condition, dtype, unrolled):
    analysis = analyze_bytes(_jax.hlo_from_text(windowed(condition, dtype, unrolled=unrolled)))
    assert [loop.trips for loop in analysis.loops] == [DEVICES // unrolled]
    assert products(analysis) == WHOLE
    assert analysis.exact


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_count_follows_the_bound(condition):
    for bound in (2, 4, 6, 12):
        analysis = analyze_bytes(_jax.hlo_from_text(windowed(condition, bound=str(bound), unrolled=2)))
        assert products(analysis) == bound * PRODUCT


@pytest.mark.parametrize("condition", [x for x in CONDITIONS if x != "constant"])
def test_a_bound_that_is_data_has_no_count(condition):
    analysis = analyze_bytes(_jax.hlo_from_text(windowed(condition, outside=DATA)))
    assert [(loop.name, loop.scope, loop.trips) for loop in analysis.loops] == [("loop", "mlp", None)]
    assert not analysis.exact
    assert products(analysis) == PRODUCT


def test_a_comparison_executes_every_step_of_a_product(compiled_as):
    comparison = compiled_as(condition="fusion", unrolled=2)
    compiled = comparison.compiled
    assert comparison.exact
    assert compiled.exact
    assert [(loop.scope, loop.trips) for loop in compiled.loops] == [("mlp", 2)]
    products = [x for x in compiled.instruction_costs if x.instruction.opcode == "dot"]
    assert sum(x.actual.flops * x.executed for x in products) == WHOLE
    # Every device passes its weights on in each of the four steps.
    assert sum(x.sent * x.executed for x in compiled.collectives) == DEVICES * WEIGHTS
    assert "Executed, with trip counts and library calls, by one of 4 devices" in str(comparison)
    # The kernels of a prediction run as often.
    assert sum(sum(x.matmul.values()) * x.times for x in comparison.kernels()) == WHOLE


@pytest.mark.parametrize("early", [True, False])
def test_a_product_hides_what_is_sent_while_it_runs(compiled_as, early):
    comparison = compiled_as(early=early)
    (sent,) = comparison.compiled.collectives
    assert (sent.scope, sent.direction, sent.axes) == ("mlp", "forward", ("fsdp",))
    assert ("part0" in sent.between) == early
    predicted = costax.predict(comparison, "h100-sxm")
    (collective,) = predicted.collectives
    one, each = collective.part.timing.expected, collective.kernel.times
    assert (each, collective.seconds) == (DEVICES, pytest.approx(DEVICES * one))
    assert collective.exposed == pytest.approx(each * (one - min(one, collective.between if early else 0)))
    assert predicted.seconds == pytest.approx(sum(x.seconds for x in predicted.parts) + predicted.dispatch)
    (row,) = to_prediction_record(predicted)["collectives"]
    assert row["exposed_seconds"] == collective.exposed
    assert "exposed" in str(predicted)


def test_the_count_of_a_comparison_follows_the_bound(compiled_as):
    executed = [compiled_as(bound=str(bound)).compiled.executed.flops for bound in (4, 8)]
    assert executed[1] - executed[0] >= WHOLE


def test_a_loop_without_a_count_is_listed_and_nothing_claims_otherwise(compiled_as, tmp_path):
    comparison = compiled_as(condition="carried", outside=DATA)
    assert not comparison.exact
    assert not comparison.compiled.exact
    assert [(loop.name, loop.scope) for loop in comparison.compiled.unknown_loops] == [("loop", "mlp")]
    text = str(comparison)
    assert re.search(r"^exact +no +1 loop of unknown length in the compiled program", text, re.MULTILINE)
    assert "the trip count of the loop loop (in mlp" in text
    assert "with the trip counts that are known" in text
    assert "with trip counts and" not in text
    record = to_record(comparison)
    assert (record["exact"], record["compiled"]["exact"]) == (False, False)
    assert record["compiled"]["unknown_loops"][0]["name"] == "loop"
    comparison.save(tmp_path / "x.json")
    saved = load_any(tmp_path / "x.json")
    assert not saved.exact
    assert "Not exact: the trip count of the loop loop" in str(saved)
    assumptions = costax.predict(comparison, "h100-sxm").assumptions
    assert any("what runs in loops of unknown length (loop) counts once" in assumption for assumption in assumptions)


def test_a_loop_of_the_program_keeps_the_count_of_its_equation():
    comparison = costax.compare(lambda x: jax.lax.scan(lambda c, _: (c @ x, None), x, None, length=9)[0])(
        costax.spec("f32[16,16]")
    )
    assert comparison.exact
    assert [loop.trips for loop in comparison.lowered.loops] == [9]


@pytest.mark.parametrize("target", [pytest.param("tpu:v5e:4x4", marks=needs("tpu"))])
@pytest.mark.slow
def test_weights_that_tpus_gather_in_steps_count_in_full(target):
    def mlp(x, w, v):
        return jax.nn.relu(x @ w) @ v

    args = [
        array(shape, "fsdp", devices=16, dtype="bfloat16") for shape in ((16, 2048, 2048), (2048, 5632), (5632, 2048))
    ]
    out = NamedSharding(mesh(16), P("fsdp"))
    compiled = costax.compare(jax.jit(mlp, out_shardings=out), target=target, passes=False)(*args).compiled
    assert compiled.exact
    costs = [x for x in compiled.instruction_costs if x.instruction.opcode in ("dot", "convolution")]
    assert sum(x.actual.flops * x.executed for x in costs) == 2 * 2048 * 2048 * 5632 * 2
    # Each device needs the fifteen sixteenths of both weights that the others have.
    assert sum(x.sent * x.executed for x in compiled.collectives) >= 2 * (2 * 2048 * 5632) * 15 // 16
