"""Mosaic GPU kernels, traced without a GPU: products of tensor cores, bytes of copies, work of blocks."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.experimental.pallas import tpu as pltpu

import costax

attention = pytest.importorskip("jax.experimental.pallas.ops.gpu.attention_mgpu")
blackwell = pytest.importorskip("jax.experimental.pallas.ops.gpu.blackwell_matmul_mgpu")
hopper = pytest.importorskip("jax.experimental.pallas.ops.gpu.hopper_matmul_mgpu")
ragged = pytest.importorskip("jax.experimental.pallas.ops.gpu.ragged_dot_mgpu")


def f16(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float16)


@pytest.mark.parametrize("collective", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), [(512, 512, 256), (1024, 256, 512), (256, 768, 128)])
def test_the_blackwell_matmul_counts_what_the_plain_product_counts(m, n, k, collective):
    tile_m, tile_n, tile_k = 128, 128, 64
    config = blackwell.TuningConfig(tile_m, tile_n, tile_k, max_concurrent_steps=2, collective=collective)
    analysis = costax.analyze(lambda a, b: blackwell.matmul_kernel(a, b, config))(f16(m, k), f16(k, n))
    plain = costax.analyze(jnp.matmul)(f16(m, k), f16(k, n))
    assert analysis.total.macs == plain.total.macs == m * n * k
    assert analysis.exact
    # Each pair of blocks that works together doubles the tile, and each of the two reads half of the factors.
    width, height = (2 * tile_m, 2 * tile_n) if collective else (tile_m, tile_n)
    copied = 0
    for _ in range(m // width):
        for _ in range(n // height):
            copied += (k // tile_k) * (width * tile_k + tile_k * height) * 2
    assert analysis.by_primitive()["copy_gmem_to_smem"].bytes_read == copied
    assert analysis.by_primitive()["copy_gmem_to_smem"].bytes_written == copied
    assert analysis.by_primitive()["copy_smem_to_gmem"].bytes_written == m * n * 2


def ragged_dot(sizes, m, n, k, transpose=False):
    def run(a, b, *lengths):
        group_sizes = lengths[0] if lengths else jnp.array(sizes, jnp.int32)
        return ragged.ragged_dot(
            a,
            b,
            group_sizes=group_sizes,
            block_m=64,
            block_n=64,
            block_k=64,
            max_concurrent_steps=2,
            grid_block_n=1,
            transpose_rhs=transpose,
        )

    return run, (f16(m, k), f16(len(sizes), *((n, k) if transpose else (k, n))))


@pytest.mark.parametrize("transpose", [False, True])
def test_a_ragged_product_with_one_group_counts_what_the_plain_product_counts(transpose):
    m, n, k = 512, 384, 128
    run, shapes = ragged_dot([m], m, n, k, transpose)
    assert costax.analyze(run)(*shapes).total.macs == m * n * k


@pytest.mark.parametrize("sizes", [(128, 128), (100, 156), (1, 0, 200, 55), (256,)])
def test_a_ragged_product_multiplies_every_tile_of_every_group(sizes):
    m, n, k = 256, 128, 192
    run, shapes = ragged_dot(sizes, m, n, k)
    analysis = costax.analyze(run)(*shapes)
    # A boundary between groups may lie inside a tile, which is then multiplied once for each of them. The kernel is
    # launched for the most tiles that may be needed, and multiplies in all of them.
    tiles = m // 64 + len(sizes) - 1
    assert analysis.total.macs == tiles * 64 * n * k
    if analysis.exact:
        # Every row is stored once. Before jax 0.9 a kernel gets references to group sizes that the program may change.
        assert analysis.by_primitive()["copy_smem_to_gmem"].bytes_written == m * n * 2


def test_group_sizes_that_are_arguments_leave_exact_products_and_an_upper_bound_of_copies():
    m, n, k = 256, 128, 192
    run, shapes = ragged_dot((128, 128), m, n, k)
    analysis = costax.analyze(run)(*shapes, jax.ShapeDtypeStruct((2,), jnp.int32))
    assert analysis.total.macs == (m // 64 + 1) * 64 * n * k
    assert analysis.exactness == "upper bound"
    assert analysis.by_primitive()["copy_smem_to_gmem"].bytes_written >= m * n * 2


@pytest.mark.parametrize("wg", list(hopper.MatmulDimension) if hasattr(hopper, "MatmulDimension") else [])
@pytest.mark.parametrize("cores", [132, 7, 1])
def test_the_hopper_matmul_counts_what_the_plain_product_counts_on_any_number_of_cores(monkeypatch, wg, cores):
    device = SimpleNamespace(core_count=cores)
    monkeypatch.setattr(hopper, "get_num_sms", lambda: cores, raising=False)
    monkeypatch.setattr(hopper, "backend", SimpleNamespace(get_default_device=lambda: device), raising=False)
    config = hopper.TuningConfig(128, 128, 64, max_concurrent_steps=2, wg_dimension=wg)
    m, n, k = 512, 768, 256

    def run(a, b):
        arguments = (a, b, None, config) if hopper.matmul.__code__.co_argcount == 4 else (a, b, config)
        return hopper.matmul(*arguments)

    analysis = costax.analyze(run)(f16(m, k), f16(k, n))
    assert analysis.total.macs == m * n * k


@pytest.mark.parametrize("causal", [False, True])
def test_attention_on_hopper_visits_the_blocks_that_the_mask_leaves(monkeypatch, causal):
    versions = SimpleNamespace(cuda_runtime_get_version=lambda: 13000)
    monkeypatch.setattr(attention, "cuda_versions", versions, raising=False)
    batch, length, heads, head, block = 2, 512, 3, 64, 64
    config = attention.TuningConfig(block_q=block, block_kv=block, max_concurrent_steps=2, causal=causal)
    shape = f16(batch, length, heads, head)
    analysis = costax.analyze(lambda q, k, v: attention.attention(q, k, v, config))(shape, shape, shape)
    seen = np.array([[k <= q or not causal for k in range(length)] for q in range(length)])
    blocks = seen.reshape(length // block, block, length // block, block).any((1, 3)).sum()
    assert analysis.total.macs == batch * heads * blocks * 2 * block * block * head


def kernel(body, grid, threads=None, **scratch):
    """Return a kernel of blocks and warpgroups on two f16[64,64] in global memory."""
    names = {"out_type": f16(64, 64)} if "out_type" in plgpu.kernel.__code__.co_varnames else {"out_shape": f16(64, 64)}
    memory = "scratch_types" if "scratch_types" in plgpu.kernel.__code__.co_varnames else "scratch_shapes"
    options = {"num_threads": threads, "thread_name": "wg"} if threads else {}
    return plgpu.kernel(body, grid=(grid,), grid_names=("block",), **names, **{memory: scratch}, **options)


@pytest.mark.parametrize(("m", "n", "k"), [(64, 64, 64), (64, 128, 32), (128, 8, 64)])
def test_a_product_of_a_warpgroup_is_m_n_k_in_every_block(m, n, k):
    def body(x, out, *, a, b):
        def scope(accumulator):
            plgpu.wgmma(accumulator, a, b)
            return accumulator[...]

        pl.run_scoped(scope, plgpu.ACC((m, n)))

    scratch = {"a": plgpu.SMEM((m, k), jnp.float16), "b": plgpu.SMEM((k, n), jnp.float16)}
    analysis = costax.analyze(kernel(body, 5, **scratch))(f16(64, 64))
    assert analysis.total.macs == 5 * m * n * k
    plain = costax.analyze(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))(f16(m, k), f16(k, n))
    assert {dtype for dtype, cost in analysis.by_dtype().items() if cost.macs} == set(plain.by_dtype()) - {"f16", "f32"}


def test_copies_move_the_part_that_is_selected_and_waiting_is_free():
    def body(x, out, *, memory, barrier):
        plgpu.copy_gmem_to_smem(x.at[pl.ds(16, 8)], memory, barrier)
        plgpu.barrier_wait(barrier)
        plgpu.copy_smem_to_gmem(memory.at[:, pl.ds(0, 32)], out.at[pl.ds(0, 8), pl.ds(32, 32)])
        plgpu.wait_smem_to_gmem(0)

    scratch = {"memory": plgpu.SMEM((8, 64), jnp.float16), "barrier": plgpu.Barrier()}
    parts = costax.analyze(kernel(body, 3, **scratch))(f16(64, 64)).by_primitive()
    assert parts["copy_gmem_to_smem"].bytes_unfused == 3 * 2 * 8 * 64 * 2
    assert parts["copy_smem_to_gmem"].bytes_unfused == 3 * 2 * 8 * 32 * 2
    assert parts["barrier_wait"] == parts["wait_smem_to_gmem"] == costax.Cost()


def test_branches_of_warpgroups_and_blocks_count_where_they_run():
    def body(x, out, *, memory):
        group, block = jax.lax.axis_index("wg"), jax.lax.axis_index("block")

        @pl.when((group == 1) & (block >= 2))
        def _():
            memory[...] = jnp.exp(memory[...])

        @pl.when(group == 0)
        def _():
            jax.lax.fori_loop(0, block, lambda i, _: memory.__setitem__(..., jnp.exp(memory[...])), None)

    analysis = costax.analyze(kernel(body, 7, threads=3, memory=plgpu.SMEM((64, 64), jnp.float16)))(f16(64, 64))
    points = sum((g == 1 and b >= 2) + (b if g == 0 else 0) for g in range(3) for b in range(7))
    assert analysis.total.transcendentals == points * 64 * 64
    assert analysis.exact


@pytest.mark.parametrize(
    ("dtype", "target"), [(jnp.float32, jnp.int32), (jnp.int32, jnp.int16), (jnp.bfloat16, jnp.uint32)]
)
def test_registers_under_another_dtype_cost_nothing(dtype, target):
    def body(x, out):
        out[...] = pltpu.bitcast(x[...], target)

    x = jax.ShapeDtypeStruct((16, 128), dtype)
    rows = 16 * jnp.dtype(dtype).itemsize // jnp.dtype(target).itemsize
    run = pl.pallas_call(body, out_shape=jax.ShapeDtypeStruct((rows, 128), target))
    analysis = costax.analyze(run)(x)
    assert analysis.total.ops == 0
    assert analysis.exact
