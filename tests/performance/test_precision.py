"""The precision of a product reaches the unit that it runs on, in programs and in compiled modules."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.performance.precision import unit_of

SPEC = jax.ShapeDtypeStruct((4096, 4096), jnp.float32)


def product(precision, dtype="float32", **options):
    spec = jax.ShapeDtypeStruct((4096, 4096), dtype)
    return costax.analyze(lambda a, b: jnp.matmul(a, b, precision=precision, **options))(spec, spec)


def unit(analysis, device):
    (kernel,) = [kernel for kernel in analysis.kernels() if kernel.contractions]
    return str(unit_of(costax.device(device), kernel.contractions[0]))


# jax.lax.Precision: on a GPU "highest" is float32, on a TPU six passes of bfloat16 and "high" is three.
@pytest.mark.parametrize(
    ("precision", "gpu", "tpu"),
    [
        (None, "tf32", "bf16"),
        ("default", "tf32", "bf16"),
        ("high", "tf32", "bf16 x 3"),
        ("highest", "fp32", "bf16 x 6"),
        ("BF16_BF16_F32", "bf16", "bf16"),
        ("BF16_BF16_F32_X3", "bf16 x 3", "bf16 x 3"),
        ("BF16_BF16_F32_X6", "bf16 x 6", "bf16 x 6"),
        (lax.DotAlgorithmPreset.TF32_TF32_F32, "tf32", "bf16"),
        ("F32_F32_F32", "fp32", "bf16 x 6"),
    ],
)
def test_the_precision_decides_the_unit_of_a_float32_product(precision, gpu, tpu):
    assert unit(product(precision), "h100") == gpu
    assert unit(product(precision), "v5e") == tpu


def test_the_precision_of_16_bit_operands_changes_nothing():
    plain, highest = (product(x, "bfloat16", preferred_element_type=jnp.float32) for x in (None, "highest"))
    for device in ("h100", "v5e"):
        assert unit(plain, device) == unit(highest, device) == "bf16"


def test_the_default_of_jax_counts():
    with jax.default_matmul_precision("highest"):
        assert unit(product(None), "h100") == "fp32"


def test_a_product_at_the_highest_precision_takes_as_long_as_the_units_say():
    fast, slow = (costax.predict(product(x), "h100") for x in (None, "highest"))
    h100 = costax.device("h100").peaks
    # 494.7 over 66.9 TFLOP/s.
    assert slow.seconds / fast.seconds == pytest.approx(h100["tf32"].value / h100["fp32"].value, rel=0.1)
    assert slow.peak == ("fp32", h100["fp32"].value)
    assert any("run on fp32" in sentence for sentence in slow.assumptions)
    assert any("run on tf32" in sentence for sentence in fast.assumptions)


def test_a_convolution_has_a_precision_too():
    def convolve(x, w):
        return lax.conv_general_dilated(x, w, (1, 1), "SAME", precision="highest")

    specs = jax.ShapeDtypeStruct((8, 64, 32, 32), jnp.float32), jax.ShapeDtypeStruct((64, 64, 3, 3), jnp.float32)
    assert unit(costax.analyze(convolve)(*specs), "h100") == "fp32"


@pytest.mark.parametrize(("precision", "expected"), [(None, ""), ("highest", "HIGHEST"), ("high", "HIGH")])
def test_a_module_keeps_the_precision(precision, expected):
    lowered = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision)).lower(SPEC, SPEC)
    (kernel,) = [kernel for kernel in costax.analyze(lowered)().kernels() if kernel.contractions]
    assert kernel.contractions[0].precision == expected
    assert kernel.contractions[0].sizes == (1, 4096, 4096, 4096)


def test_a_module_keeps_the_algorithm():
    lowered = jax.jit(lambda a, b: jnp.matmul(a, b, precision="BF16_BF16_F32_X3")).lower(SPEC, SPEC)
    (kernel,) = [kernel for kernel in costax.analyze(lowered)().kernels() if kernel.contractions]
    assert kernel.contractions[0].precision == "BF16_BF16_F32_X3"
