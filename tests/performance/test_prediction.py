"""Prediction: the roofline by hand, collectives by their formulas, and what a prediction says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner

import costax
from costax.cli.app import main
from costax.compare.kernels import of_comparison
from costax.performance import collective_time
from costax.performance.kernels import MATMUL, MEMORY, of_analysis
from costax.performance.roofline import interpolated

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def spec(*shape, dtype="bfloat16"):
    return jax.ShapeDtypeStruct(shape, dtype)


def product(m, k, n, dtype="bfloat16"):
    return costax.analyze(lambda x, w: x @ w)(spec(m, k, dtype=dtype), spec(k, n, dtype=dtype))


def test_a_product_takes_its_flops_over_the_share_of_the_peak_that_was_measured():
    found = costax.predict(product(4096, 4096, 4096), "h100")
    h100 = costax.device("h100")
    at_best = 2 * 4096**3 / (h100.peaks["bf16"].value * h100.efficiency["bf16_matmul"].value)
    # XLA's measured table: 176 us for this product on an H100.
    assert at_best <= found.seconds <= 1.1 * 176e-6
    assert found.seconds == pytest.approx(176e-6, rel=0.1)
    assert found.bound == MATMUL


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


def test_groups_have_all_the_work_of_the_program():
    def loss(w, x):
        h = jax.nn.gelu(x @ w)
        return jax.nn.softmax(h).sum()

    found = costax.analyze(jax.grad(loss))(spec(64, 64, dtype="float32"), spec(32, 64, dtype="float32"))
    made = of_analysis(found)
    assert sum(sum(g.matmul.values()) * g.times for g in made) == 2 * found.total.macs
    assert sum(sum(g.special.values()) * g.times for g in made) == found.total.transcendentals


def test_groups_of_a_loop_run_as_often_as_it_does():
    def fn(x, w):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=7)[0]

    found = costax.analyze(fn)(spec(8, 8, dtype="float32"), spec(8, 8, dtype="float32"))
    products = [g for g in of_analysis(found) if g.matmul]
    assert [g.times for g in products] == [7]


def test_elementwise_work_is_fused_and_reads_its_inputs_once():
    found = costax.analyze(lambda x: jnp.tanh(jnp.exp(x) * 2 + 1))(spec(1024, 1024, dtype="float32"))
    (group,) = of_analysis(found)
    assert group.read == group.written == 4 * 1024 * 1024


def test_xlas_own_fusions_make_the_groups_of_a_comparison():
    def fn(x, w):
        return jnp.tanh(x @ w + 1.0)

    comparison = costax.compare(fn)(spec(64, 128, dtype="float32"), spec(128, 32, dtype="float32"))
    made = of_comparison(comparison)
    assert sum(sum(g.matmul.values()) for g in made) == 2 * 64 * 128 * 32
    assert sum(sum(g.special.values()) for g in made) == 64 * 32
    predicted = costax.predict(comparison, "h100")
    assert "XLA's own" in predicted.assumptions[0]


def test_what_xla_runs_in_a_loop_counts_as_often_as_it_runs():
    def fn(x, w):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=9)[0]

    made = of_comparison(costax.compare(fn)(spec(16, 16, dtype="float32"), spec(16, 16, dtype="float32")))
    assert sum(sum(g.matmul.values()) * g.times for g in made) == 9 * 2 * 16**3


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
    assert found.hfu > found.mfu
    assert found.hfu == pytest.approx(found.flops / found.seconds / found.peak[1])


def test_throughput_counts_tokens_and_examples():
    found = costax.predict(product(512, 512, 512), "h100", tokens=512, examples=4)
    assert found.throughput["tokens"] == pytest.approx(128 * found.throughput["examples"])


def test_unverified_figures_are_named():
    assert any("Not verified" in said for said in costax.predict(product(8, 8, 8), "h100-nvl").assumptions)


def test_a_device_without_peaks_predicts_nothing():
    with pytest.raises(LookupError, match="calibrate"):
        costax.predict(product(8, 8, 8), "x86-generic")


def test_tpus_run_float32_as_one_pass_of_bfloat16():
    wide, narrow = (costax.predict(product(8192, 8192, 8192, dtype), "v5p") for dtype in ("float32", "bfloat16"))
    assert wide.peak == narrow.peak


# Collectives.


@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_rings_take_the_time_of_their_steps(n):
    # By simulation: in each of the steps every device sends a part of V / n over its one link.
    whole, rate = 1_000_000 * n, 1e9
    step = whole / n / rate
    assert collective_time.seconds("all-gather", whole, n, rate) == pytest.approx((n - 1) * step)
    assert collective_time.seconds("reduce-scatter", whole, n, rate) == pytest.approx((n - 1) * step)
    assert collective_time.seconds("all-reduce", whole, n, rate) == pytest.approx(2 * (n - 1) * step)


def test_two_directions_take_half_the_time():
    one = collective_time.seconds("all-reduce", 10**8, 8, 1e9)
    assert collective_time.seconds("all-reduce", 10**8, 8, 1e9, topology="bidirectional ring") == pytest.approx(one / 2)


def test_a_torus_uses_all_its_axes():
    one = collective_time.seconds("all-gather", 10**8, 16, 1e9, topology="torus", axes=1)
    assert collective_time.seconds("all-gather", 10**8, 16, 1e9, topology="torus", axes=2) == pytest.approx(one / 2)


def test_an_all_to_all_on_a_ring_passes_the_middle():
    n, whole, rate = 8, 8_000_000, 1e9
    # By counting: each device sends a part to each other one, the shorter way round.
    loads = dict.fromkeys(((i, d) for i in range(n) for d in (1, -1)), 0.0)
    for source in range(n):
        for target in range(n):
            ahead = (target - source) % n
            ways = (
                [(1, ahead)] if 2 * ahead < n else [(-1, n - ahead)] if 2 * ahead > n else [(1, ahead), (-1, n - ahead)]
            )
            for direction, steps in ways if ahead else ():
                for step in range(steps):
                    loads[(source + direction * step) % n, direction] += whole / n / len(ways)
    found = collective_time.seconds("all-to-all", whole, n, rate, topology="bidirectional ring")
    assert found == pytest.approx(max(loads.values()) / rate)


def test_nobody_exchanges_with_himself():
    assert collective_time.seconds("all-reduce", 10**9, 1, 1e9) == 0


def test_an_unknown_collective_is_an_error():
    with pytest.raises(TypeError, match="broadcast"):
        collective_time.seconds("broadcast", 1, 2, 1e9)


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
    assert interpolated(table, 1) == pytest.approx(10)
    assert interpolated(table, 10**6) == 10000.0


# The command line.


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_the_command_predicts():
    done = run("predict", f"{EXAMPLES}/mlp_train.py:mlp_train_step", "--device", "h100-sxm", "--examples", "128")
    assert done.exit_code == 0, done.output
    assert "examples a second" in done.output
    assert "bound by" in done.output


def test_the_command_gives_a_record():
    done = run("predict", f"{EXAMPLES}/mlp_train.py:mlp_forward", "--device", "v5e", "--json")
    record = json.loads(done.output)
    assert record["schema"] == "costax/prediction/1"
    assert record["seconds"]["best"] <= record["seconds"]["expected"] <= record["seconds"]["worst"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--device", "h1000"],
        ["--device", "h100", "--mesh", "data"],
        ["--device", "h100", "--tokens", "0"],
        ["--device", "x86-generic"],
        [],
    ],
)
def test_wrong_options_end_with_2_and_one_message(arguments):
    done = run("predict", f"{EXAMPLES}/mlp_train.py:mlp_forward", *arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_the_command_says_whether_a_program_fits():
    assert run("fits", f"{EXAMPLES}/resnet.py:resnet50", "--device", "l4").exit_code == 0
    done = run("fits", f"{EXAMPLES}/llama.py:llama2_7b", "--device", "tpu-v5e", "--json")
    assert done.exit_code == 0
    done = run("fits", f"{EXAMPLES}/llama.py:llama3_405b_train_step", "--device", "h100")
    assert done.exit_code == 1
    assert "What to change" in done.output


def test_the_command_lists_devices():
    assert "h100-sxm" in run("devices").output
    assert "unverified" not in run("devices", "h100").output
    assert 'name = "NVIDIA L4"' in run("devices", "l4", "--file").output
    assert len(json.loads(run("devices", "--json").output)) >= 27
    assert run("devices", "nothing").exit_code == 2
