"""Prediction: the roofline by hand, collectives by their formulas, and what a prediction says of itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import costax
from costax.performance.cpu.rates import interpolated
from costax.performance.kernels import MATMUL_UNIT, MEMORY


def spec(*shape, dtype="bfloat16"):
    return jax.ShapeDtypeStruct(shape, dtype)


def product(m, k, n, dtype="bfloat16"):
    return costax.analyze(lambda x, w: x @ w)(spec(m, k, dtype=dtype), spec(k, n, dtype=dtype))


def test_a_product_takes_its_flops_over_the_share_of_the_peak_that_was_measured():
    found = costax.predict(product(4096, 4096, 4096), "h100")
    h100 = costax.device("h100")
    at_best = 2 * 4096**3 / (h100.peaks["bf16"].value * h100.efficiency["bf16_matmul"].value)
    # XLA's measured table: 176 us for this product on an H100.
    assert 0.95 * at_best <= found.seconds <= 1.1 * 176e-6
    assert found.seconds == pytest.approx(176e-6, rel=0.1)
    assert found.bound == MATMUL_UNIT


def test_an_addition_takes_its_bytes_over_the_bandwidth():
    found = costax.predict(costax.analyze(lambda a, b: a + b)(spec(2**26), spec(2**26)), "h100")
    # XLA's model: 120.3 us for 64 Mi elements of bfloat16.
    assert found.seconds == pytest.approx(120.3e-6, rel=0.15)
    assert found.bound == MEMORY


@pytest.mark.parametrize(("device", "tokens"), [("v5e", 240), ("h100", 300)])
def test_a_wide_layer_is_bound_by_arithmetic_from_the_batch_that_the_book_says(device, tokens):
    # Austin et al., How To Scale Your Model, "Rooflines".
    def at_ridge(batch):
        found = costax.predict(product(batch, 65536, 65536), device)
        return found.intensity["compulsory"] > found.ridge

    assert not at_ridge(int(0.9 * tokens))
    assert at_ridge(int(1.1 * tokens))


def test_the_range_holds_what_is_expected():
    best, expected, worst = costax.predict(product(512, 512, 512), "a100").range
    assert 0 < best <= expected <= worst


def test_parts_add_up_to_the_whole():
    found = costax.predict(product(512, 512, 512), "a100")
    for table in (found.by_scope(), found.by_direction(), found.by_bound()):
        assert sum(table.values()) + found.dispatch == pytest.approx(found.seconds)


def test_utilisation_counts_recomputed_work_apart():
    def loss(w, x):
        body = jax.checkpoint(lambda c, _: (jnp.tanh(c @ w), None))
        return jax.lax.scan(body, x, None, length=4)[0].sum()

    found = costax.predict(costax.analyze(jax.grad(loss))(spec(512, 512), spec(512, 512)), "h100")
    # 2 FLOPs a MAC: a product forward, once more recomputed, two backward; the model asks for three of the four.
    assert found.hfu == pytest.approx(4 * 4 * 2 * 512**3 / found.seconds / 989.4e12, rel=0.01)
    assert found.hfu / found.mfu == pytest.approx(4 / 3, rel=0.01)


def test_throughput_counts_tokens_and_examples():
    found = costax.predict(product(512, 512, 512), "h100", tokens=512, examples=4)
    assert found.throughput["tokens"] == pytest.approx(512 / found.seconds)
    assert found.throughput["examples"] == pytest.approx(4 / found.seconds)


def test_unverified_figures_are_named():
    assert any("Not verified" in said for said in costax.predict(product(8, 8, 8), "h100-nvl").assumptions)


def test_a_device_without_peaks_predicts_nothing():
    with pytest.raises(LookupError, match="calibrate"):
        costax.predict(product(8, 8, 8), "x86-generic")


def test_tpus_run_float32_as_one_pass_of_bfloat16():
    wide, narrow = (costax.predict(product(8192, 8192, 8192, dtype), "v5p") for dtype in ("float32", "bfloat16"))
    assert wide.peak == narrow.peak


def test_collectives_of_a_program_take_time_on_the_link():
    from jax.sharding import AbstractMesh, AxisType
    from jax.sharding import PartitionSpec as P

    mesh = AbstractMesh((16,), ("x",), axis_types=(AxisType.Auto,))
    fn = jax.shard_map(lambda x: jax.lax.psum(x, "x"), mesh=mesh, in_specs=P("x"), out_specs=P())
    found = costax.predict(costax.analyze(fn)(spec(16 * 2**20, 8, dtype="float32")), "v5e", mesh={"x": 16})
    # Bidirectional ring of one axis: V / W, at 80 % of 50 GB/s a link.
    shard = 4 * 8 * 2**20
    assert found.bound == "link"
    assert found.seconds == pytest.approx(shard * 15 / 16 / 50e9 / 0.8, rel=0.05)


def test_rates_are_interpolated_on_logarithmic_axes():
    table = [[10, 100.0], [1000, 10000.0]]
    assert interpolated(table, 100) == pytest.approx(1000)
    # Outside of the table the nearest rate holds.
    assert interpolated(table, 1) == 100.0
    assert interpolated(table, 10**6) == 10000.0


def test_the_former_name_of_a_kernel_warns_and_works():
    (part,) = costax.predict(product(64, 64, 64), "h100").parts
    with pytest.deprecated_call(match="kernel"):
        assert part.group is part.kernel
