"""MFU by every convention. Expected are published runs: the time of a step, its FLOP/s and its MFU."""

from __future__ import annotations

import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

import costax
from costax.errors import DeviceError, InputError, SymbolError
from language_models import analysis as traced
from published_models import MODELS

analysis = cache(traced)

# (model, length, sequences of all devices, devices, seconds, device, convention, TFLOP/s a device, tokens/s a device,
# MFU). Source: MaxText, understand_logs_and_metrics (DeepSeek2) and the tiering and recipe pages of its 30 public runs.
# The MFU is that of the page, or its TFLOP/s over the peak of Google's page (v6e: 918, v5p: 459).
PUBLISHED = [
    ("deepseek2-16b", 2048, 24 * 4, 4, 5.667, "tpu-v5p", "maxtext", 134.924, 8672.758, 0.2940),
    ("llama3-8b", 8192, 3 * 8, 8, 3.443, "tpu-v6e", "maxtext:noncausal", 413.433, 7138.890, 0.4504),
    ("mistral-7b", 8192, 6 * 8, 8, 6.320, "tpu-v6e", "maxtext:noncausal", 431.981, 7776.813, 0.4706),
    # JAX-Toolbox's README prints sequences a second: 22.19 on 8 devices.
    ("llama2-7b", 4096, 2 * 8, 8, 0.721, "h100-sxm", "maxtext", 487.0, 22.19 * 4096 / 8, 0.492),
]


@pytest.mark.parametrize(
    ("name", "length", "batch", "devices", "seconds", "device", "convention", "tflops", "tokens", "mfu"), PUBLISHED
)
def test_a_published_step_has_the_published_numbers(
    name, length, batch, devices, seconds, device, convention, tflops, tokens, mfu
):
    step = analysis(MODELS[name], length, batch=batch, training=True)
    found = step.mfu(seconds, device, devices=devices, tokens=batch * length, peak="bf16")
    assert found.flops_per_second_per_device(convention) / 1e12 == pytest.approx(tflops, rel=1e-3)
    assert found.tokens_per_second_per_device == pytest.approx(tokens, rel=1e-3)
    assert found.mfu(convention) == pytest.approx(mfu, abs=2e-3)
    assert found.flops_per_second(convention) == pytest.approx(devices * tflops * 1e12, rel=1e-3)


@pytest.mark.parametrize("name", ["llama3-8b", "mixtral-8x7b", "deepseek2-16b"])
def test_what_a_convention_leaves_out_leads_from_all_flops_to_its_number(name):
    step = analysis(MODELS[name], 2048, training=True)
    found = step.mfu(100.0, "tpu-v5p")
    for count in found.counts:
        if count.convention not in ("hardware", "model"):
            assert count.flops == step.as_(count.convention), count.convention
        assert found.flops("hardware") + sum(reason.count for reason in count.reasons) == count.flops
    given = {count.convention for count in found.counts}
    assert {"model", "hardware", "palm", "maxtext", "megatron:2025", "torchtitan", "torch", "xla"} <= given
    assert found.hfu == step.total.flops / 100.0 / 459e12
    # Tools that count forward passes of layers have no number for a training step, and that is said.
    assert "forward passes only" in found.omitted["fvcore"]


def test_recomputed_work_is_hardware_and_no_model():
    w, x = costax.spec("f32[64,64]"), costax.spec("f32[8,64]")

    def loss(w, x):
        return jax.checkpoint(lambda w, x: jnp.tanh(x @ w) @ w)(w, x).sum()

    plain, again = (
        costax.analyze(jax.value_and_grad(fn), params_argnums=0)(w, x).mfu(1.0, "a100-sxm-80")
        for fn in (lambda w, x: (jnp.tanh(x @ w) @ w).sum(), loss)
    )
    assert plain.flops("hardware") == plain.flops("model")
    # The first product is computed once more; the second one is not needed for a gradient.
    assert again.flops("hardware") - again.flops("model") == pytest.approx(2 * 8 * 64 * 64, rel=0.05)
    assert again.flops("model") == pytest.approx(plain.flops("model"), rel=0.02)
    assert again.mfu() < again.hfu


def test_a_sharded_program_is_divided_by_its_devices():
    mesh = AbstractMesh((2,), ("x",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("x")
    fn = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows)
    analysis = costax.analyze(fn)(costax.spec("bf16[64,32]"), costax.spec("bf16[32,16]"))
    found = analysis.mfu(1e-3, "h100-sxm")
    assert found.devices == 2
    assert found.flops_per_second_per_device() == 2 * 64 * 32 * 16 / 2 / 1e-3
    with pytest.raises(InputError, match="sharded over 2 devices, not over 3"):
        analysis.mfu(1e-3, "h100-sxm", devices=3)


def test_the_peak_is_that_of_the_products_and_of_one_of_jaxs_devices():
    def step(x8, w8, x, w):
        return (jnp.dot(x8, w8, preferred_element_type=jnp.float32) + x @ w).sum()

    fp8, bf16 = costax.spec("f8_e4m3fn[512,512]"), costax.spec("bf16[64,64]")
    small = costax.spec("f32[512,64]"), costax.spec("f32[64,512]")
    mixed = costax.analyze(step)(fp8, fp8, *small)
    assert mixed.mfu(1.0, "h100-sxm").unit == "fp8"
    assert mixed.mfu(1.0, "h100-sxm", peak="bf16").unit == mixed.mfu(1.0, "h100-sxm", peak="bfloat16").unit == "bf16"
    product = costax.analyze(jnp.matmul)(bf16, bf16)
    one, chip = product.mfu(1.0, "tpu-v7x"), costax.device("tpu-v7x")
    assert one.peak == chip.peaks["bf16"].value / 2
    assert any("one chip as 2 devices" in note for note in one.notes)


MATMUL = costax.spec("bf16[4096,4096]")


def test_a_step_at_its_peak_is_possible_and_a_faster_one_is_not():
    product = costax.analyze(jnp.matmul)(MATMUL, MATMUL)
    at_peak = 2 * 4096**3 / costax.device("h100-sxm").peaks["bf16"].value
    assert product.mfu(at_peak, "h100-sxm").mfu() == pytest.approx(1.0)
    with pytest.raises(InputError, match=r"impossible.*102%") as caught:
        product.mfu(at_peak / 1.02, "h100-sxm")
    assert "in seconds" in caught.value.cure
    # Two devices have twice the peak.
    assert product.mfu(at_peak / 1.02, "h100-sxm", devices=2).mfu() == pytest.approx(0.51)


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"seconds": 0}, InputError, "positive number of seconds, got 0"),
        ({"seconds": -1.0}, InputError, "positive number of seconds"),
        ({"seconds": float("nan")}, InputError, "positive number of seconds"),
        ({"seconds": float("inf")}, InputError, "positive number of seconds"),
        ({"device": "h1000"}, DeviceError, "no device 'h1000'"),
        ({"device": "x86-generic"}, DeviceError, "is not known"),
        ({"devices": 0}, InputError, "at least 1"),
        ({"tokens": 0}, InputError, "at least 1"),
        ({"peak": "fp6"}, DeviceError, "for fp6 is not known"),
    ],
)
def test_wrong_input_is_one_message(wrong, error, text):
    given = {"seconds": 1.0, "device": "h100-sxm", **wrong}
    with pytest.raises(error, match=text) as caught:
        costax.analyze(jnp.matmul)(MATMUL, MATMUL).mfu(given.pop("seconds"), given.pop("device"), **given)
    assert caught.value.cure


def test_symbols_need_values():
    symbolic = costax.analyze(jnp.matmul)(costax.spec("bf16[b,64]"), costax.spec("bf16[64,64]"))
    with pytest.raises(SymbolError, match="depend on symbols"):
        symbolic.mfu(1.0, "h100-sxm")
    assert symbolic.evaluate(b=8).mfu(1.0, "h100-sxm").flops() == 2 * 8 * 64 * 64


def test_a_convention_without_a_number_says_why():
    found = costax.analyze(lambda x: x @ np.ones((8, 8), np.float32))(costax.spec("f32[8,8]")).mfu(1.0, "h100-sxm")
    with pytest.raises(InputError, match="gives no number") as caught:
        found.mfu("maxtext")
    assert "which inputs" in caught.value.why
    with pytest.raises(InputError, match="gives no number"):
        found.mfu("mine")


def test_the_record_has_all_numbers(tmp_path):
    found = analysis(MODELS["llama3-8b"], 2048, training=True).mfu(2.0, "h100-sxm", devices=4, tokens=2048)
    found.save(tmp_path / "mfu.json")
    record = json.loads((tmp_path / "mfu.json").read_text())
    assert record["tokens_per_second"] == 1024
    assert record["tokens_per_second_per_device"] == 256
    by_name = {row["convention"]: row for row in record["conventions"]}
    assert by_name["palm"]["mfu"] == found.mfu("palm")
    assert by_name["palm"]["flops_per_step"] == found.flops("palm")
    assert "all devices" in str(found)
    assert "a device" in str(found)


def _dense(w, x):
    return jnp.tanh(x @ w).sum()


DENSE = costax.spec("f32[512,512]"), costax.spec("f32[64,512]")
# The forward product and the gradient of w, and tanh with its derivative: a few FLOPs an element.
PRODUCTS = 2 * 2 * 64 * 512 * 512


def test_the_first_line_is_the_answer_with_the_digits_of_the_table():
    found = costax.analyze(jax.grad(_dense), params_argnums=0)(*DENSE).mfu(1e-3, "h100-sxm", devices=2)
    first, *rest = str(found).splitlines()
    # 0.0068 % of two devices: with two decimals it would be 0.01 %.
    share = f"{100 * PRODUCTS / 1e-3 / 2 / found.peak:.2g}%"
    assert share == "0.0068%"
    assert first.startswith(f"MFU {share}: _dense does 67.2 MFLOPs (model) in 1 ms on 2 x NVIDIA H100")
    assert first.endswith("of 495 TFLOP/s each (tf32).")
    assert any(line.split()[:1] == ["model"] and share in line for line in rest)
    assert share in repr(found)
    faster = str(costax.analyze(jax.grad(_dense))(*DENSE).mfu(1e-5, "h100-sxm"))
    assert faster.startswith(f"MFU {PRODUCTS / 1e-5 / found.peak:.2%}: ")


def test_formulas_of_transformers_have_no_row_where_there_is_no_transformer():
    step = costax.analyze(jax.grad(_dense), params_argnums=0)(*DENSE)
    found = step.mfu(1e-3, "h100-sxm")
    assert "\n model " in str(found)
    assert "\n palm " not in str(found)
    assert "formulas of transformers" in str(found)
    assert "palm" in found.unfitting
    # They have a number still, and a user that names tokens has a row for it.
    assert found.flops("palm") > 0
    llama = analysis(MODELS["llama3-8b"], 2048, training=True)
    for shown in (step.mfu(1e-3, "h100-sxm", tokens=64), llama.mfu(9, "v5p")):
        assert not shown.unfitting
        assert "\n palm " in str(shown)
        assert "formulas of transformers" not in str(shown)

    def lookup(table, tokens):
        return jnp.take(table, tokens, axis=0).sum(axis=1) @ table.T

    embedded = costax.analyze(lookup, params_argnums=0)("f32[100,64]", "i32[8,16]").mfu(1.0, "h100-sxm")
    assert embedded.unfitting == ()


@pytest.mark.parametrize(("program", "is_said"), [(_dense, True), (jax.grad(_dense), False)])
def test_a_forward_pass_is_no_training_step(program, is_said):
    found = costax.analyze(program)(*DENSE).mfu(1e-3, "h100-sxm")
    assert any("not of a training step" in note for note in found.notes) is is_said
