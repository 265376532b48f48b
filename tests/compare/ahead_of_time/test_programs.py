"""Whole programs, compiled for machines that are not here: the account adds up, and the replay is XLA's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from aot_targets import BOTH, H100, f32, is_exact, needs


def mlp(params, x, y):
    for w, b in params:
        x = jax.nn.relu(x @ w + b)
    return ((x - y) ** 2).mean()


def cnn(params, x, y):
    *kernels, head = params
    for w in kernels:
        x = jax.nn.relu(lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return -(jax.nn.log_softmax(x.reshape(x.shape[0], -1) @ head) * y).sum()


def transformer(layers, x):
    for p in layers:
        h = x - x.mean(-1, keepdims=True)
        h = h * lax.rsqrt((h**2).mean(-1, keepdims=True) + 1e-5) * p["g"]
        q, k, v = ((h @ p[n]).reshape(*x.shape[:2], 4, -1).swapaxes(1, 2) for n in "qkv")
        a = jax.nn.softmax(q @ k.swapaxes(-1, -2) / 8.0) @ v
        x = x + a.swapaxes(1, 2).reshape(x.shape) @ p["o"]
        x = x + jax.nn.gelu(x @ p["u"]) @ p["d"]
    return (x**2).sum()


def recurrent(w, x):
    def step(carry, w):
        return jnp.tanh(carry @ w), carry.sum()

    last, sums = lax.scan(step, x, w)
    return last.sum() + sums.sum()


def algebra(a, b):
    factor = jnp.linalg.cholesky(a @ a.T + jnp.eye(32))
    q, _ = jnp.linalg.qr(a)
    return jnp.linalg.solve(a, b).sum() + factor.sum() + q.sum() + jnp.linalg.eigvalsh(a + a.T).sum()


def branches(x, i):
    x = lax.cond(i > 0, lambda x: jnp.sin(x) @ x, lambda x: x * 2, x)
    return lax.while_loop(lambda c: c.sum() < 5, lambda c: c * 2, x).sum()


D = 64
LAYER = {"g": f32(D), **{n: f32(D, D) for n in "qkvo"}, "u": f32(D, 4 * D), "d": f32(4 * D, D)}
HALF = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, "bfloat16"), ([LAYER] * 2, f32(2, 32, D)))
PROGRAMS = {
    "mlp gradient": (
        jax.value_and_grad(mlp),
        [(f32(64, 128), f32(128)), (f32(128, 32), f32(32))],
        f32(16, 64),
        f32(16, 32),
    ),
    "cnn gradient": (
        jax.grad(cnn),
        [f32(3, 3, 3, 16), f32(3, 3, 16, 32), f32(8 * 8 * 32, 10)],
        f32(8, 32, 32, 3),
        f32(8, 10),
    ),
    "transformer gradient": (jax.grad(transformer), [LAYER] * 2, f32(2, 32, D)),
    "transformer gradient in bf16": (jax.grad(transformer), *HALF),
    "remat": (jax.grad(jax.checkpoint(transformer)), [LAYER] * 2, f32(2, 32, D)),
    "scan gradient": (jax.grad(recurrent), f32(8, 64, 64), f32(32, 64)),
    "linear algebra": (algebra, f32(32, 32), f32(32, 4)),
    "sort and fft": (lambda x: (lax.sort(x), jnp.fft.rfft(x), lax.top_k(x, 3)), f32(8, 64)),
    "branches": (branches, f32(64, 64), jax.ShapeDtypeStruct((), "int32")),
}


@BOTH
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_account_is_exact(target, name):
    fn, *args = PROGRAMS[name]
    comparison = costax.compare(fn, target=target)(*args)
    is_exact(comparison)
    assert comparison.marked
    assert comparison.compiled.attributed >= 0.99


@BOTH
def test_loops_run_as_often_as_the_program_says(target):
    fn, *args = PROGRAMS["scan gradient"]
    ledger = costax.compare(fn, target=target)(*args).compiled
    # Eight steps of three products: forward, and the two of the gradient.
    products = 8 * 3 * 2 * 32 * 64 * 64
    assert ledger.executed.flops == pytest.approx(products, rel=0.05)
    assert ledger.total.flops < products / 7


@BOTH
def test_what_was_compiled_tells_its_memory_and_its_time(target):
    ledger = costax.compare(lambda a, b: a @ b, target=target)(f32(1024, 512), f32(512, 256)).compiled
    assert ledger.memory["argument"] == 4 * (1024 * 512 + 512 * 256)
    assert ledger.memory["output"] == 4 * 1024 * 256
    assert ledger.seconds > 0


@BOTH
def test_gpt2_of_two_layers(target):
    optax = pytest.importorskip("optax")
    nn = pytest.importorskip("flax.linen")

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(num_heads=12)(y, y)
            return x + nn.Dense(768)(nn.gelu(nn.Dense(4 * 768)(nn.LayerNorm()(x))))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            embed = nn.Embed(50257, 768)
            x = embed(tokens)
            for _ in range(2):
                x = Block()(x)
            return embed.attend(nn.LayerNorm()(x))

    def loss(params, tokens):
        logits = Net().apply(params, tokens[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    params = jax.eval_shape(Net().init, costax.spec("key<fry>[]"), costax.spec("i32[2,128]"))
    comparison = costax.compare(jax.value_and_grad(loss), target=target)(params, costax.spec("i32[2,129]"))
    is_exact(comparison)
    assert comparison.compiled.attributed >= 0.99
    assert comparison.compiled.executed.flops == pytest.approx(comparison.jaxpr.total.flops, rel=0.02)


@needs("cuda")
def test_a_product_for_which_triton_finds_no_tiles_is_left_to_the_library():
    def fn(x, w, b):
        return x.swapaxes(1, 2) @ w + b

    found = costax.compare(fn, target="cuda:h100")(f32(4, 16, 49), f32(16, 32), f32(32))
    if not found.compiled.note:
        pytest.skip("this XLA finds tiles")
    assert found.compiled.executed.flops >= 2 * 4 * 49 * 16 * 32
    assert not found.unexplained
    assert "cuBLAS" in str(found)


@pytest.mark.parametrize("target", [H100])
@pytest.mark.parametrize("of", ["inputs", "results"])
def test_running_sums_have_their_steps_though_they_share_what_they_apply(target, of):
    def sums(x, y):
        a, b = (x, y) if of == "inputs" else (lax.sin(x), lax.cos(y))
        return jnp.cumsum(a), jnp.cumsum(b), x.sum() + y.sum()

    lengths = 120_000, 80_000
    comparison = costax.compare(sums, target=target)(*map(f32, lengths))
    is_exact(comparison)
    assert not comparison.unexplained
    # Before, each element was a window of all of them, or the whole a scan; after, each is one of 16 in two passes, and
    # a little above.
    by_equation = [
        {address: cost.flops for address, cost in stage.by_equation().items()}
        for stage in (comparison.lowered, comparison.compiled)
    ]
    sums = [call_site.address for call_site in call_sites_of(comparison, "cumsum")]
    assert len(sums) == 2
    for address, n in zip(sums, lengths, strict=True):
        before, after = (flops.get(address, 0) for flops in by_equation)
        assert before in (n * (n - 1), n - 1, 1), "a window of all before, or a scan"
        assert 2 * 15 * n < after < 2 * 17 * n
        passes = [delta for delta in comparison.deltas if delta.pass_name and delta.address == address]
        assert sum(delta.flops for delta in passes) == after - before


def call_sites_of(comparison, primitive):
    """The call sites of a primitive, in the order of the program."""
    sites = {cost.call_site for cost in comparison.lowered.instruction_costs if cost.call_site is not None}
    return sorted((site for site in sites if site.primitive == primitive), key=lambda site: site.address)


@pytest.mark.parametrize("target", [H100])
def test_what_an_instruction_takes_in_place_of_a_result_explains_it(target):
    def half(spins, beta, noise):
        return jnp.where(jnp.exp(-beta[:, None] * (2.0 * spins)) > noise, -spins, spins)

    def sweeps(spins, beta, noise):
        return half(half(spins, beta, noise), beta, noise * noise)

    n = 64
    comparison = costax.compare(sweeps, target=target)(f32(n, n), f32(n), f32(n, n))
    is_exact(comparison)
    assert not comparison.unexplained
    scaled = [delta for delta in comparison.deltas if delta.equation == "mul" and delta.flops == -n * n]
    if not scaled:
        pytest.skip("this XLA multiplies as the program does")
    # A pass did each, to one equation of either half.
    assert len({delta.address for delta in scaled}) == len(scaled) == 2
    assert all(delta.pass_name for delta in scaled)


@pytest.mark.parametrize("target", [H100])
def test_a_matrix_exponential_has_no_difference_without_a_name(target):
    comparison = costax.compare(jax.scipy.linalg.expm, target=target)(f32(32, 32))
    is_exact(comparison)
    assert not comparison.unexplained


@pytest.mark.parametrize("target", [H100])
def test_products_that_one_call_does_together_belong_to_one_of_them(target):
    def heads(x, q, k, v):
        return jnp.tanh(x @ q), jnp.exp(x @ k), jnp.sin(x @ v)

    # Products of complex numbers are calls of cuBLAS, which XLA charges -1.
    square = jax.ShapeDtypeStruct((64, 64), "complex64")
    comparison = costax.compare(heads, target=target)(square, square, square, square)
    is_exact(comparison)
    assert not comparison.unexplained
    products = call_sites_of(comparison, "dot_general")
    assert len(products) == 3
    calls = [cost for cost in comparison.compiled.instruction_costs if "cublas" in cost.opcode]
    assert calls
    assert {call.call_site for call in calls} <= set(products)
    assert sum(call.actual.flops for call in calls) == 3 * 2 * 64**3
    # Each product loses what it counted; each call counts -1.
    deltas = [delta for delta in comparison.deltas if delta.pass_name and delta.equation == "dot_general"]
    assert {delta.address for delta in deltas} == {product.address for product in products}
    counted = sum(comparison.lowered.by_equation()[product.address].flops for product in products)
    assert sum(delta.flops for delta in deltas) == -counted - len(calls)
