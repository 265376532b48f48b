"""Exported functions: StableHLO counts what the jaxpr that it came from counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import export, lax
from jax._src.interpreters import mlir
from jaxlib.mlir import ir

import costax
from costax.rules.higher_order.stablehlo import StablehloReader


def counts(function, *args):
    total = costax.analyze(function)(*args).total
    return total.macs, total.padding_macs, total.flops, total.transcendentals


def convolved(x, kernel):
    return lax.conv_general_dilated(x, kernel, (2, 2), "SAME", rhs_dilation=(2, 1), feature_group_count=3)


def recurrent(x, w):
    return lax.scan(lambda carry, _: (jnp.tanh(carry @ w), None), x, None, length=10)[0]


def branching(x):
    return lax.cond(x[0, 0] > 0, lambda a: a @ a, lambda a: a + 1, x)


def network(x, w):
    hidden = jax.nn.gelu(x @ w, approximate=True)
    return jax.nn.softmax(hidden) - hidden.max(axis=0)


def scattered(x, i):
    return x.at[i].add(1.0).at[i].multiply(2.0)


def pooled(x):
    return jax.grad(lambda y: lax.reduce_window(y, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID").sum())(x)


PROGRAMS = {
    "convolution": (convolved, "f32[2,3,9,8]", "f32[6,1,3,3]"),
    "scan": (recurrent, "f32[4,8]", "f32[8,8]"),
    "cond": (branching, "f32[8,8]"),
    "network": (network, "f32[4,8]", "f32[8,16]"),
    "gradient": (jax.grad(lambda x, w: network(x, w).sum()), "f32[4,8]", "f32[8,16]"),
    "scatter": (scattered, "f32[100,8]", "i32[7]"),
    "pooling": (pooled, "f32[8,8]"),
    "sort": (lambda x: lax.sort(x, dimension=0), "f32[16,3]"),
    "top_k": (lambda x: lax.top_k(x, 3), "f32[4,20]"),
    "fft": (lambda x: jnp.fft.rfft(x), "f32[4,16]"),
    "complex": (lambda x: jnp.real(x) * jnp.imag(x), "c64[4,8]"),
    "integers": (lambda x: (x * x) >> 3, "i32[4,8]"),
    "erf": (lambda x: lax.erf(x) + lax.sinh(x), "f32[4,8]"),
    "batched": (lambda a, b: jnp.einsum("bij,bjk->bik", a, b), "bf16[3,4,5]", "bf16[3,5,6]"),
    "cholesky": (lambda x: lax.linalg.cholesky(x, symmetrize_input=False)[0, 0], "f32[6,6]"),
    "svd": (lambda x: lax.linalg.svd(x, full_matrices=False)[1], "f32[8,6]"),
    "singular values": (lambda x: lax.linalg.svd(x, compute_uv=False)[0], "f32[8,6]"),
    "eigenvectors": (lambda x: lax.linalg.eig(x, compute_left_eigenvectors=False)[0], "f32[6,6]"),
    "loops": (lambda x: lax.fori_loop(3, 9, lambda i, a: lax.fori_loop(0, 4, lambda j, b: b @ b, a), x), "f32[5,5]"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_exported_function_counts_what_its_jaxpr_counts(name):
    function, *shapes = PROGRAMS[name]
    args = [costax.spec(shape) for shape in shapes]
    exported = export.export(jax.jit(function))(*args)
    assert counts(exported.call, *args) == counts(function, *args)


def test_symbolic_dimensions_take_the_sizes_of_the_call():
    batch, length = export.symbolic_shape("b, n")
    exported = export.export(jax.jit(network))(
        jax.ShapeDtypeStruct((batch, length), "float32"), jax.ShapeDtypeStruct((length, 16), "float32")
    )
    for sizes in ((3, 8), (5, 24)):
        args = costax.spec(f"f32[{sizes[0]},{sizes[1]}]"), costax.spec(f"f32[{sizes[1]},16]")
        assert counts(exported.call, *args) == counts(network, *args)


def test_a_deserialised_function_is_counted():
    pytest.importorskip("flatbuffers")
    args = costax.spec("f32[4,8]"), costax.spec("f32[8,16]")
    again = export.deserialize(export.export(jax.jit(network))(*args).serialize())
    assert counts(again.call, *args) == counts(network, *args)


def test_a_function_exported_for_another_platform_is_counted():
    args = costax.spec("f32[4,8]"), costax.spec("f32[8,8]")
    exported = export.export(jax.jit(recurrent), platforms=["tpu"])(*args)
    assert counts(exported.call, *args) == counts(recurrent, *args)


def test_scopes_survive_the_export():
    def layered(x):
        with jax.named_scope("encoder"), jax.named_scope("layer_0"):
            return x @ x

    exported = export.export(jax.jit(layered))(costax.spec("f32[8,8]"))
    scopes = costax.analyze(exported.call)(costax.spec("f32[8,8]")).by_scope()
    assert {scope for scope, cost in scopes.items() if cost.macs} == {"encoder/layer_0"}


def test_a_library_call_inside_is_listed_by_its_name():
    def called(x):
        return jax.ffi.ffi_call("my_library", jax.ShapeDtypeStruct(x.shape, x.dtype))(x)

    args = (costax.spec("f32[4,8]"),)
    checks = [export.DisabledSafetyCheck.custom_call("my_library")]
    exported = export.export(jax.jit(called), disabled_checks=checks)(*args)
    with pytest.warns(costax.UncountedWarning):
        analysis = costax.analyze(exported.call, on_missing="warn")(*args)
    assert ["my_library" in missing.reason for missing in analysis.uncounted] == [True]


def test_nothing_of_an_exported_function_is_run():
    exported = export.export(jax.jit(lambda x: x @ x))(costax.spec("f32[100000,100000]"))
    assert counts(exported.call, costax.spec("f32[100000,100000]"))[0] == 10**15


def read(text: str):
    with mlir.make_ir_context():
        return StablehloReader(ir.Module.parse(f"module {{ {text} }}")).function("main")


def test_an_operation_without_a_name_in_jax_keeps_its_own():
    main = read("""
        func.func @main(%x: tensor<4x8xf32>, %s: tensor<8xf32>) -> tensor<4x8xf32> {
          %y = "stablehlo.batch_norm_inference"(%x, %s, %s, %s, %s) <{epsilon = 1.0e-3 : f32, feature_index = 1 : i64}>
            : (tensor<4x8xf32>, tensor<8xf32>, tensor<8xf32>, tensor<8xf32>, tensor<8xf32>) -> tensor<4x8xf32>
          return %y : tensor<4x8xf32>
        }""")
    (instruction,) = main.eqns
    assert instruction.primitive.name == "stablehlo.batch_norm_inference"
    assert instruction.primitive.name not in costax.rules()


def test_the_true_branch_of_an_if_is_the_second_one():
    main = read("""
        func.func @main(%p: tensor<i1>, %x: tensor<4xf32>) -> tensor<4xf32> {
          %y = "stablehlo.if"(%p) ({
            %a = stablehlo.tanh %x : tensor<4xf32>
            stablehlo.return %a : tensor<4xf32>
          }, {
            stablehlo.return %x : tensor<4xf32>
          }) : (tensor<i1>) -> tensor<4xf32>
          return %y : tensor<4xf32>
        }""")
    false, true = main.eqns[0].params["branches"]
    assert [len(branch.eqns) for branch in (false, true)] == [0, 1]


def test_a_collective_keeps_its_groups():
    main = read("""
        func.func @main(%x: tensor<4xf32>) -> tensor<16xf32> {
          %y = "stablehlo.all_gather"(%x) <{
            all_gather_dim = 0 : i64,
            replica_groups = dense<[[0, 1, 2, 3]]> : tensor<1x4xi64>
          }> : (tensor<4xf32>) -> tensor<16xf32>
          return %y : tensor<16xf32>
        }""")
    assert main.eqns[0].primitive.name == "all_gather"
    assert main.eqns[0].params["axis_index_groups"] == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("operation", "attribute", "primitive"),
    [
        ("collective_broadcast", "replica_groups = dense<[[0, 1]]> : tensor<1x2xi64>", "pbroadcast"),
        # The pairs do not say how many devices there are, so that the mean over the devices is unknown.
        (
            "collective_permute",
            "source_target_pairs = dense<[[0, 1]]> : tensor<1x2xi64>",
            "stablehlo.collective_permute",
        ),
    ],
)
def test_a_collective_without_a_known_group_is_missing(operation, attribute, primitive):
    main = read(f"""
        func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {{
          %y = "stablehlo.{operation}"(%x) <{{{attribute}}}> : (tensor<4xf32>) -> tensor<4xf32>
          return %y : tensor<4xf32>
        }}""")
    assert main.eqns[0].primitive.name == primitive
