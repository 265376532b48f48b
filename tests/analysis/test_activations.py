"""Activations under their published definitions, and sizes of models."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.program.targets import load_target

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name):
    return costax.analyze(load_target(f"{EXAMPLES / name}"))()


def test_alexnet_has_the_activations_of_the_lecture():
    # MIT 6.5940, lecture 2: the image, every convolution, pooling and linear layer.
    found = example("alexnet.py:alexnet_224")
    assert found.activations("mit") == 932_264
    assert found.peak_activations("mit") == 440_928 == 150_528 + 290_400


def test_resnet_50_has_the_activations_that_timm_publishes():
    # timm's results: 11.11 million, fvcore's count.
    assert example("resnet.py:resnet50").activations("contractions") == 11_114_984


def test_alexnet_has_the_size_of_the_lecture():
    found = example("alexnet.py:alexnet_224")
    assert round(found.model_size() / 8 / 1e6) == 244
    assert round(found.model_size("int8") / 8 / 1e6) == 61
    assert found.model_size("int8") == 8 * found.params


def test_a_mixed_scheme_takes_the_first_pattern_that_fits():
    found = example("alexnet.py:alexnet_224")
    linear = sum(size.elements for scope, size in found.params_by_scope().items() if "fc" in scope)
    assert found.model_size({"fc*": 4, "*": 16}) == 4 * linear + 16 * (found.params - linear)


def test_parameters_that_no_pattern_fits_are_an_error():
    with pytest.raises(TypeError, match="match none of the patterns"):
        example("alexnet.py:alexnet_224").model_size({"fc*": 4})
    with pytest.raises(TypeError, match="neither a positive number of bits"):
        example("alexnet.py:alexnet_224").model_size("int7")


def test_all_activations_are_what_the_equations_produce():
    def fn(x):
        return jnp.tanh(x) + x

    assert costax.analyze(fn)(costax.spec("f32[4,8]")).activations("all") == 2 * 4 * 8


def test_a_scan_produces_its_layers_once_a_step():
    def fn(x, w):
        return lax.scan(lambda c, _: (c @ w, None), x, None, length=5)[0]

    found = costax.analyze(fn, params_argnums=1)(costax.spec("f32[2,8]"), costax.spec("f32[8,8]"))
    assert found.activations("contractions") == 5 * 2 * 8
    assert found.activations("mit") == 2 * 8 + 5 * 2 * 8


def test_pooling_is_a_layer_and_normalisation_is_none():
    def fn(x):
        pooled = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return lax.reduce_window(pooled, 0.0, lax.add, (1, 1, 1, 5), (1, 1, 1, 1), "SAME")

    found = costax.analyze(fn)(costax.spec("f32[1,8,8,16]"))
    assert found.activations("mit") == 8 * 8 * 16 + 4 * 4 * 16


def test_keys_are_no_input_of_a_network():
    def fn(key, x):
        return x @ x + jax.random.normal(key, (8, 8))

    found = costax.analyze(fn)(costax.spec("u32[2]"), costax.spec("f32[8,8]"))
    assert found.activations("mit") == 2 * 8 * 8


def test_a_kind_that_nobody_knows_is_an_error():
    found = costax.analyze(jnp.tanh)(costax.spec("f32[4]"))
    with pytest.raises(TypeError, match="mit, contractions, all"):
        found.activations("fvcore")
    with pytest.raises(TypeError, match="peak_bytes"):
        found.peak_activations("all")


# The command line.
