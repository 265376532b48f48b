"""What if: sizes, operations and traffic of a program that is not changed."""

from __future__ import annotations

import jax
import pytest

import costax


def attention(params, x):
    with jax.named_scope("project"):
        q = x @ params["q"]
    with jax.named_scope("scores"):
        return q @ x.T


def analysis():
    params = {"q": jax.ShapeDtypeStruct((64, 64), "float32")}
    return costax.analyze(attention, params_argnums=0)(params, jax.ShapeDtypeStruct((32, 64), "float32"))


def test_nothing_changes_where_nothing_is_asked_for():
    found, same = analysis(), analysis().what_if()
    assert (same.macs, same.ops, same.model_bits) == (found.total.macs, found.total.ops, found.model_size())


def test_weights_of_8_bits_take_a_quarter_of_the_place():
    found = analysis()
    assert found.what_if(weights="int8").model_bits == 64 * 64 * 8 == found.model_size() // 4


def test_traffic_falls_by_what_is_narrower():
    now, then = analysis().what_if(), analysis().what_if(weights="int8")
    assert now.traffic - then.traffic == 64 * 64 * 3
    half = analysis().what_if(weights="bf16", activations="bf16")
    assert half.traffic == now.traffic // 2


def test_integers_meet_integers_on_the_integer_unit():
    (project, scores) = [g for g in analysis().what_if(weights="int8", activations="int8").kernels() if g.matmul]
    assert list(project.matmul) == ["i8*i8->i32"]
    assert list(scores.matmul) == ["i8"]


@pytest.mark.parametrize(
    ("own", "weights", "activations", "expected"),
    [
        ("float32", None, "int8", "f32"),
        ("float32", "bf16", "int8", "bf16"),
        ("float32", "int8", "bf16", "bf16"),
        ("float32", "int8", None, "f32"),
        ("bfloat16", None, "int8", "bf16"),
        ("bfloat16", None, "fp32", "f32"),
        ("bfloat16", "fp8", "int8", "f8_e4m3fn"),
        ("float32", "int4", "int8", "i8*i4->i32"),
        ("float32", None, None, "f32"),
    ],
)
def test_the_wider_of_two_formats_decides(own, weights, activations, expected):
    x = jax.ShapeDtypeStruct((64, 64), own)
    found = costax.analyze(lambda w, x: x @ w, params_argnums=0)(x, x).what_if(weights=weights, activations=activations)
    assert [dtype for kernel in found.kernels() for dtype in kernel.matmul] == [expected]


def test_wide_weights_with_narrow_activations_are_as_fast_as_wide_ones():
    x = jax.ShapeDtypeStruct((4096, 4096), "float32")
    found = costax.analyze(lambda w, x: x @ w, params_argnums=0)(x, x)
    changed = found.what_if(activations="int8")
    # The product of 4096^3 is bound by the matmul unit, whatever its activations take in memory.
    assert changed.predict("h100").seconds == pytest.approx(costax.predict(found, "h100").seconds, rel=0.01)
    assert changed.predict("h100").peak[0] == "tf32"
    assert "runs in the parameters' format" in " ".join(changed.assumptions)


def test_pruning_changes_neither_traffic_nor_time_of_dense_hardware():
    w, x = jax.ShapeDtypeStruct((8192, 8192), "float32"), jax.ShapeDtypeStruct((1, 8192), "float32")

    def layer(params, x):
        with jax.named_scope("layer"):
            return x @ params

    found = costax.analyze(layer, params_argnums=0)(w, x)
    pruned = found.what_if(sparsity={"layer": 0.5})
    assert costax.predict(found, "h100").bound == "memory"
    assert pruned.predict("h100").seconds == costax.predict(found, "h100").seconds
    assert pruned.traffic == found.what_if().traffic
    assert pruned.macs == found.total.macs // 2
    assert "neither traffic nor time" in " ".join(pruned.assumptions)


def test_narrow_weights_are_widened_to_the_activations():
    (project, _) = [g for g in analysis().what_if(weights="int4", activations="bf16").kernels() if g.matmul]
    assert list(project.matmul) == ["bf16"]


def test_pruned_weights_do_no_work_and_leave_a_bit_each():
    found = analysis()
    pruned = found.what_if(sparsity={"project": 0.75})
    assert found.total.macs - pruned.macs == 3 * (32 * 64 * 64) // 4
    assert pruned.model_bits == 64 * 64 * 32 // 4 + 64 * 64


def test_a_product_of_two_activations_is_not_pruned():
    assert analysis().what_if(sparsity={"*": 0.5}).macs == 32 * 64 * 64 // 2 + 32 * 64 * 32


def test_a_fused_multiply_add_is_one_operation():
    found = analysis()
    assert found.total.ops - found.what_if(fuse_multiply_add=True).ops == found.total.macs


def test_int8_is_faster_where_the_hardware_has_it():
    x = jax.ShapeDtypeStruct((4096, 4096), "bfloat16")
    found = costax.analyze(lambda w, x: x @ w, params_argnums=0)(x, x)
    wide, narrow = found.what_if(), found.what_if(weights="int8", activations="int8")
    assert narrow.predict("h100").seconds < 0.8 * wide.predict("h100").seconds
    assert narrow.predict("h100").peak[0] == "int8"


def test_assumptions_are_said():
    said = " ".join(analysis().what_if(weights="int4", activations="bf16", sparsity={"project": 0.5}).assumptions)
    for word in ("int4", "bf16", "converts them", "dense hardware reads and multiplies the zeros too"):
        assert word in said


def test_what_makes_no_sense_is_an_error():
    with pytest.raises(TypeError, match="not a number format"):
        analysis().what_if(weights="int7")
    with pytest.raises(TypeError, match="at least 0 and less than 1"):
        analysis().what_if(sparsity={"project": 1.5})
    with pytest.raises(TypeError, match="No scope with parameters"):
        analysis().what_if(sparsity={"nowhere": 0.5})


def test_the_former_name_of_the_kernels_warns_and_works():
    changed = analysis().what_if(weights="int8")
    with pytest.deprecated_call(match="kernels"):
        assert changed.groups == changed.kernels()
