"""Library calls at their true cost: what the configuration of a call says, against what the program asks for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from aot_targets import H100, V5E, f32, needs
from costax.core.conventions import as_xla

LAPACK = {
    "cholesky": (lax.linalg.cholesky, f32(3, 16, 16)),
    "lu": (lambda a: lax.linalg.lu(a)[0], f32(3, 16, 8)),
    "qr": (lambda a: lax.linalg.qr(a, full_matrices=False), f32(3, 16, 8)),
    "eigh": (lax.linalg.eigh, f32(3, 16, 16)),
    "svd": (lambda a: lax.linalg.svd(a, full_matrices=False), f32(3, 16, 8)),
    "svd full": (lambda a: lax.linalg.svd(a, full_matrices=True), f32(3, 16, 8)),
    "singular values": (lambda a: lax.linalg.svd(a, compute_uv=False), f32(3, 16, 8)),
    "triangular solve": (lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True), f32(3, 16, 16), f32(3, 16, 4)),
    "unit triangular": (lambda a, b: lax.linalg.triangular_solve(a, b, unit_diagonal=True), f32(16, 16), f32(4, 16)),
    "tridiagonal": (lambda a: lax.linalg.tridiagonal(a)[0], f32(3, 16, 16)),
    "tridiagonal solve": (lax.linalg.tridiagonal_solve, f32(3, 16), f32(3, 16), f32(3, 16), f32(3, 16, 4)),
}
CPU_ONLY = {
    "eig": (lax.linalg.eig, f32(3, 16, 16)),
    "eigenvalues": (
        lambda a: lax.linalg.eig(a, compute_left_eigenvectors=False, compute_right_eigenvectors=False),
        f32(16, 16),
    ),
    "schur": (lax.linalg.schur, f32(3, 16, 16)),
    "hessenberg": (lax.linalg.hessenberg, f32(3, 16, 16)),
    "top k": (lambda a: lax.top_k(a, 5), f32(8, 1000)),
}


# What the primitive is called, where it is not the name of the case.
PRIMITIVES = {
    **{"svd full": ("svd",), "singular values": ("svd",)},
    **{"eigenvalues": ("eig",), "top k": ("top_k",), "unit triangular": ("triangular_solve",)},
    **{"triangular solve": ("triangular_solve",), "tridiagonal solve": ("tridiagonal_solve",)},
}


def calls(ledger):
    return [c for c in ledger.instruction_costs if c.instruction.opcode == "custom-call"]


def asked_for(comparison, name):
    by_primitive = comparison.jaxpr.by_primitive()
    return sum(as_xla(by_primitive[primitive]).flops for primitive in PRIMITIVES.get(name, (name,)))


@pytest.mark.parametrize("name", [*LAPACK, *CPU_ONLY])
def test_lapack_does_what_the_equation_asks_for(name):
    fn, *args = (LAPACK | CPU_ONLY)[name]
    comparison = costax.compare(fn)(*args)
    assert calls(comparison.compiled)
    assert not comparison.compiled.opaque
    assert sum(c.actual.flops for c in calls(comparison.compiled)) == asked_for(comparison, name)


@needs("cuda")
@pytest.mark.parametrize("name", LAPACK)
def test_cusolver_does_what_the_equation_asks_for(name):
    fn, *args = LAPACK[name]
    comparison = costax.compare(fn, target="cuda:h100")(*args)
    assert not comparison.compiled.opaque
    # svd of cuSOLVER's Jacobi kind forms square factors always.
    if name != "svd" and name != "singular values":
        assert sum(c.actual.flops for c in calls(comparison.compiled)) == asked_for(comparison, name)


@pytest.mark.parametrize("target", [V5E])
@pytest.mark.parametrize("name", ["cholesky", "lu"])
def test_a_block_of_a_tpus_factorisation_does_what_the_equation_asks_for(target, name):
    fn, matrices = LAPACK[name]
    comparison = costax.compare(fn, target=target)(f32(*matrices.shape[1:]))
    found = [c.actual.flops for c in calls(comparison.compiled) if c.actual.flops]
    if not found:
        pytest.skip("this libtpu factorises without a call")
    assert found == [asked_for(comparison, name)]


def convolution(stride, groups):
    def fn(x, w):
        return lax.conv_general_dilated(
            x, w, stride, ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
        )

    return fn


@needs("cuda")
@pytest.mark.parametrize(("stride", "groups"), [((1, 1), 1), ((2, 2), 1), ((1, 1), 4)])
@pytest.mark.parametrize("of", ["forward", "input", "kernel"])
def test_cudnn_convolves_as_many_taps_as_xla_counts_before_it_compiles(stride, groups, of):
    forward = convolution(stride, groups)
    argument = {"forward": None, "input": 0, "kernel": 1}[of]
    fn = forward if argument is None else jax.grad(lambda x, w: (forward(x, w) * 0.5).sum(), argument)
    args = f32(4, 16, 16, 8), f32(3, 3, 8 // groups, 16)
    comparison = costax.compare(fn, target="cuda:h100")(*args)
    counted = sum(c.flops for c in comparison.lowered.instruction_costs if c.opcode == "convolution")
    done = sum(
        c.actual.flops
        for c in comparison.compiled.instruction_costs
        if "cudnn" in c.opcode or c.opcode == "convolution"
    )
    assert done == counted


@needs("cuda")
def test_cublas_multiplies_as_xla_counts_before_it_compiles():
    c64 = [jax.ShapeDtypeStruct(shape, "complex64") for shape in ((512, 256), (256, 128))]
    comparison = costax.compare(lambda a, b: a @ b, target="cuda:h100")(*c64)
    products = [c for c in comparison.compiled.instruction_costs if "cublas" in c.opcode]
    assert products
    assert sum(c.actual.flops for c in products) == 2 * 512 * 256 * 128
    assert all(c.flops == -1 for c in products)


@needs("cuda")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("gradient", [False, True])
def test_cudnn_attention_does_what_the_equation_asks_for(monkeypatch, causal, gradient):
    # Without a GPU there is no cuDNN to ask for its version; the compiler wants none.
    from jax._src.cudnn import fused_attention_stablehlo

    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(fused_attention_stablehlo, "check_compute_capability", lambda *_: True)
    query, key = (jax.ShapeDtypeStruct((2, n, 4, 64), "bfloat16") for n in (128, 256))

    def attention(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn", is_causal=causal)

    fn = jax.grad(lambda *qkv: attention(*qkv).astype("float32").sum(), (0, 1, 2)) if gradient else attention
    comparison = costax.compare(fn, target="cuda:h100")(query, key, key)
    call_sites = (c.call_site for c in comparison.compiled.instruction_costs if c.call_site)
    asked = {call_site.node.label: as_xla(call_site.cost) for call_site in call_sites}
    done = {c.call_site.node.label: c.actual for c in comparison.compiled.instruction_costs if "fmha" in c.opcode}
    assert len(done) == 1 + gradient
    for name, true in done.items():
        assert (true.flops, true.transcendentals) == asked[name]


def test_a_transform_counts_once_for_each_length():
    comparison = costax.compare(jnp.fft.fft2)(jax.ShapeDtypeStruct((8, 32, 64), "complex64"))
    # 5 N log2 N, where XLA multiplies the logarithms.
    assert comparison.compiled.executed.flops == 8 * 5 * 32 * 64 * (5 + 6)
    assert comparison.xla["flops"] == 8 * 8 * 32 * 64 * (5 * 6)


@pytest.mark.parametrize("estimate", [True, False])
@pytest.mark.parametrize("target", [V5E])
def test_a_kernel_does_what_it_says_or_what_its_jaxpr_asks_for(target, estimate):
    pallas = pytest.importorskip("jax.experimental.pallas")

    def kernel(x, y, out):
        out[...] = x[...] @ y[...]

    said = pallas.CostEstimate(flops=12345678, transcendentals=7, bytes_accessed=1000) if estimate else None
    fn = pallas.pallas_call(kernel, out_shape=f32(64, 64), cost_estimate=said)
    ledger = costax.compare(fn, target=target)(f32(64, 64), f32(64, 64)).compiled
    assert ledger.matches_xla
    assert ledger.executed.flops == (12345678 if estimate else 2 * 64**3)
    assert ledger.xla.get("flops", 0) == (12345678 if estimate else 0)


@pytest.mark.parametrize("target", [H100])
def test_a_convolution_says_what_became_of_it(target):
    comparison = costax.compare(convolution((1, 1), 1), target=target)(f32(4, 16, 16, 8), f32(3, 3, 8, 16))
    counted = sum(c.flops for c in comparison.lowered.instruction_costs if c.opcode == "convolution")
    deltas = [d for d in comparison.deltas if d.pass_name and d.equation == "conv_general_dilated"]
    # Which pass gives it to the library is XLA's choice; the call counts -1 in place of the work.
    (called,) = [d for d in deltas if d.flops <= -counted]
    assert called.flops == -1 - counted
    changes = comparison.passes[called.pass_name].changes(called)
    assert any(" convolution(" in change.before for change in changes)
    assert any(" custom-call(" in change.after for change in changes)
    (call,) = [c for c in comparison.compiled.instruction_costs if "__cudnn$conv" in c.opcode]
    assert (call.flops, call.call_site.address) == (-1, called.address)
