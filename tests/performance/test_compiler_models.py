"""Models of XLA for GPUs, CPUs and TPUs, against what these compilers took (jax 0.10.2, read off their assignments)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.performance.hardware import device
from costax.performance.memory import XLA_CPU, XLA_GPU_H100, XLA_TPU_V5E, compiler_model
from costax.performance.memory.schedule import KernelGraph, breadth_first, depth_first, list_order, post_order

ROOT = Path(__file__).resolve().parents[2]
# The result is the same for every version of jax.
pytestmark = pytest.mark.once

f32 = costax.spec


def memory(fn, *shapes, model=XLA_GPU_H100):
    return costax.analyze(fn)(*map(f32, shapes)).memory.compiled_by(model)


def gradient_of_layers(ws, x):
    for w in ws:
        x = jax.nn.relu(x @ w)
    return jnp.square(x).mean()


def test_a_cpu_keeps_what_a_breadth_first_order_leaves_alive():
    ws = [f32("f32[1024,1024]")] * 4
    found = costax.analyze(jax.grad(gradient_of_layers))(ws, f32("f32[4096,1024]")).memory.compiled_by(XLA_CPU)
    # Eight arrays of f32[4096,1024]: the product and the activation of each layer.
    assert found.parts["temporaries"] == pytest.approx(134_217_728, rel=0.02)


def test_a_cpu_computes_a_chain_that_ends_in_a_reduction_inside_one_library_call():
    def attention(q, k, v):
        s = jnp.einsum("bhqd,bhkd->bhqk", q, k)
        e = jnp.exp(s - s.max(-1, keepdims=True))
        return jnp.einsum("bhqk,bhkd->bhqd", e / e.sum(-1, keepdims=True), v)

    scores = 4 * 8 * 512 * 512 * 4
    shapes = ("f32[4,8,512,64]",) * 3
    assert memory(attention, *shapes, model=XLA_CPU).parts["temporaries"] < scores / 16
    # A single product takes no activation into its call.
    alone = memory(lambda x, w: jnp.tanh(x @ w) @ w, "f32[4096,1024]", "f32[1024,1024]", model=XLA_CPU)
    assert alone.parts["temporaries"] >= 4096 * 1024 * 4


def test_a_cpu_casts_the_stacked_weights_of_a_scan_before_it():
    def layers(ws, x):
        return lax.scan(lambda c, w: (jnp.tanh(c @ w), None), x, ws)[0]

    wide = memory(layers, "bf16[64,512,512]", "bf16[256,512]", model=XLA_CPU).parts["temporaries"]
    # wrapped_convert = f32[64,512,512] in XLA's module.
    assert wide == pytest.approx(64 * 512 * 512 * 4, rel=0.05)
    assert memory(layers, "f32[64,512,512]", "f32[256,512]", model=XLA_CPU).parts["temporaries"] < wide / 10


def test_the_zeros_of_all_recomputed_scans_are_alive_together_on_a_gpu():
    @jax.checkpoint
    def block(w, x):
        return lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=32)[0]

    def loss(ws, x):
        for w in ws:
            x = block(w, x)
        return x.sum()

    found = costax.analyze(jax.grad(loss))([f32("f32[256,256]")] * 6, f32("f32[512,256]")).memory
    # XLA for an H100: 307.8 MB; loop_broadcast_fusion.1 fills 18 arrays of f32[32,512,256].
    assert found.parts["temporaries"] == pytest.approx(307_800_000, rel=0.02)
    # One block: its own arrays alone.
    one = costax.analyze(jax.grad(loss))([f32("f32[256,256]")], f32("f32[512,256]")).memory
    assert one.parts["temporaries"] < found.parts["temporaries"] / 5


def test_a_ragged_product_takes_its_operands_once_for_each_group_and_no_more():
    def loss(w, x, sizes):
        return lax.ragged_dot(x, w, sizes).sum()

    found = costax.analyze(jax.grad(loss))(f32("f32[8,512,768]"), f32("f32[4096,512]"), f32("i32[8]")).memory
    # XLA for CPUs: both operands, 8 x 4096 x (512 + 768) x 4 bytes.
    expanded = 8 * 4096 * (512 + 768) * 4
    assert found.compiled_by(XLA_CPU).parts["temporaries"] == pytest.approx(expanded, rel=0.15)
    # A TPU multiplies ragged operands as they are.
    assert found.compiled_by(XLA_TPU_V5E).parts["temporaries"] < expanded / 4


def test_the_gradient_of_slices_is_one_array():
    def loss(x, starts):
        return sum(jnp.sin(lax.dynamic_slice(x, (starts[i], 0), (128, 1024))).sum() for i in range(8))

    for model in (XLA_GPU_H100, XLA_CPU, XLA_TPU_V5E):
        found = costax.analyze(jax.grad(loss))(f32("f32[1024,1024]"), f32("i32[8]")).memory.compiled_by(model)
        assert found.fused_estimate == pytest.approx(2 * 1024 * 1024 * 4, rel=0.02)


def test_the_gradients_of_several_lookups_share_one_array():
    def loss(table, i, j):
        return (table[i] * table[j]).sum()

    found = costax.analyze(jax.grad(loss))(f32("f32[100000,128]"), f32("i32[64]"), f32("i32[64]")).memory
    table = 100000 * 128 * 4
    assert found.fused_estimate < 3.2 * table


def test_products_that_share_an_operand_are_merged_on_a_gpu_alone():
    def three(x, q, k, v):
        return jnp.tanh(x @ q).sum(0), jnp.tanh(x @ k).sum(0), jnp.tanh(x @ v).sum(0)

    shapes = ("f32[8192,512]", *("f32[512,768]",) * 3)
    merged = 8192 * 3 * 768 * 4
    assert memory(three, *shapes).parts["temporaries"] >= merged
    assert memory(three, *shapes, model=XLA_TPU_V5E).parts["temporaries"] < merged


def test_a_loop_that_stacks_a_new_cache_does_not_overwrite_the_old_one():
    def decode(cache, x):
        return lax.scan(lambda c, old: (c + old[0], lax.dynamic_update_slice(old, c[None], (3, 0))), x, cache)

    step = jax.jit(decode, donate_argnums=0)
    found = costax.analyze(step)(f32("f32[16,1024,512]"), f32("f32[512]")).memory
    assert found.parts["temporaries"] >= 16 * 1024 * 512 * 4


def test_arrays_of_a_tpu_are_padded_to_tiles_in_the_layout_that_wastes_least():
    def loss(a, b, w):
        return jnp.tanh(jnp.einsum("bif,fgr,bjg->bijr", a, w, b)).sum()

    shapes = ("f32[8,96,64]", "f32[8,96,64]", "f32[64,64,32]")
    found = costax.analyze(jax.grad(loss, argnums=(0, 1, 2)))(*map(f32, shapes)).memory
    # libtpu for a v5e: argument_size_in_bytes.
    assert found.compiled_by(XLA_TPU_V5E).parts["arguments"] == 1_572_864
    assert found.parts["arguments"] == 2 * 8 * 96 * 64 * 4 + 64 * 64 * 32 * 4


def test_temporaries_that_fit_the_vmem_of_a_tpu_take_no_hbm():
    def chain(x, w):
        return jnp.tanh(jnp.tanh(x @ w) @ w) @ w

    small = memory(chain, "f32[4096,1024]", "f32[1024,1024]", model=XLA_TPU_V5E)
    assert small.parts["temporaries"] == 0
    assert "temporaries in on-chip memory" in small.doubts
    assert small.bounds[1] >= 2 * 4096 * 1024 * 4 + small.parts["arguments"]
    # An array larger than the VMEM lies in HBM.
    large = memory(chain, "f32[65536,1024]", "f32[1024,1024]", model=XLA_TPU_V5E)
    assert large.parts["temporaries"] >= 65536 * 1024 * 4


def test_the_model_is_that_of_the_device_that_is_asked():
    assert compiler_model(device("v5e")).kind == "tpu"
    assert compiler_model(device("x86-generic")).kind == "cpu"
    a100, h100 = compiler_model(device("a100-sxm-80")), compiler_model(device("h100"))
    assert (a100.multiprocessors, h100.multiprocessors) == (108, 132)
    found = costax.analyze(lambda x: jnp.exp(x) @ x)(f32("f32[256,256]"))
    names = {found.memory_use(device(name)).source for name in ("h100", "v5e", "x86-generic", "a100-sxm-80")}
    assert len(names) == 4


def test_without_a_model_the_framework_peak_is_given_and_said_to_be_it():
    assert compiler_model(device("apple-m4")) is None
    found = costax.analyze(lambda x: jnp.exp(x) @ x)(f32("f32[256,256]"))
    use = found.memory_use(device("apple-m4"))
    assert use.needed == found.peak_bytes
    assert "no memory model" in use.source


# The figures below are argument + output - alias + temp of XLA compiled ahead of time for `cuda:h100`, jax 0.10.2.
# XLA counts scalars, tables of pointers and the padding after them, which costax knows to some hundred bytes.


def log_probability(w, x, labels):
    logits = jax.nn.log_softmax((x @ w).astype(jnp.float32))
    return jax.nn.softplus(jnp.take_along_axis(logits, labels[..., None], -1)[..., 0].sum(-1)).mean()


def cross_entropy(w, x, labels):
    logits = x @ w
    return (jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]).mean()


@pytest.mark.parametrize(
    ("fn", "shapes", "xla"),
    [
        pytest.param(
            lambda x, q, k, v, g: (jnp.tanh(x @ q) @ g, jnp.tanh(x @ k) @ g, jnp.tanh(x @ v) @ g),
            ("f32[4096,512]", *("f32[512,512]",) * 4),
            62_914_584,
            id="a merged product reads the parts of its operand where they are",
        ),
        pytest.param(
            jax.grad(lambda w, x, sizes: lax.ragged_dot(x, w, sizes).sum()),
            ("f32[4,256,512]", "f32[1024,256]", "i32[4]"),
            24_117_264,
            id="the gradient of ragged weights is split along the rows, and does not read the weights",
        ),
        pytest.param(
            lambda x, w, sizes: lax.ragged_dot(x, w, sizes),
            ("bf16[4096,512]", "bf16[8,512,1024]", "i32[8]"),
            54_525_984,
            id="the rows of a ragged product are written once for each group",
        ),
        pytest.param(
            lambda x: lax.top_k(x, 100),
            ("f32[256,400000]",),
            1_229_004_832,
            id="a top-k that has no kernel sorts whole rows",
        ),
        pytest.param(
            jax.value_and_grad(cross_entropy, argnums=(0, 1)),
            ("f32[512,50000]", "f32[1024,512]", "i32[1024]"),
            618_598_444,
            id="what is updated in place later overwrites nothing that dies",
        ),
        pytest.param(
            jax.grad(log_probability),
            ("bf16[512,8192]", "bf16[4,256,512]", "i32[4,256]"),
            101_720_064,
            id="a softmax that the gradient opens keeps its rows less their maximum",
        ),
    ],
)
def test_a_mechanism_of_xla_for_gpus_takes_the_bytes_that_xla_takes(fn, shapes, xla):
    assert memory(fn, *shapes).fused_estimate == pytest.approx(xla, rel=1e-4)


def contracted_twice(a, b):
    return lax.dot_general(a, b, (((0, 1), (0, 1)), ((), ())))


@pytest.mark.parametrize(
    ("fn", "shapes"),
    [
        pytest.param(
            lambda a, b, c: contracted_twice(a @ b, c),
            ("f32[4,512,512]", "f32[512,384]", "f32[4,512,384]"),
            id="the left operand is transposed where several axes are contracted",
        ),
        pytest.param(
            lambda a, b, c: (a @ b).T @ c,
            ("f32[2048,512]", "f32[512,384]", "f32[2048,384]"),
            id="no operand is transposed where one axis is",
        ),
        pytest.param(
            lambda a, b, c, d: ((a * b) @ c, contracted_twice(a * b, d)),
            ("f32[4,512,512]", "f32[4,512,512]", "f32[512,384]", "f32[4,512,384]"),
            id="a cheap value is computed for a product with merged axes and for a transpose",
        ),
        pytest.param(
            lambda a, b, c: (jnp.tanh(a) * b, jnp.tanh(a) + c),
            ("f32[1024,1024]", "f32[1024,1024]", "f32[1024,1024]"),
            id="an expensive value of two kernels is computed once",
        ),
        pytest.param(
            lambda a, b, c: (-a * b, -a + c),
            ("f32[1024,1024]", "f32[1024,1024]", "f32[1024,1024]"),
            id="a cheap value of two kernels is computed in both",
        ),
        pytest.param(
            lambda x, a, b: ((x @ a * 3).max(-1), (x @ b * 3).max(-1)),
            ("f32[2048,256]", "f32[256,1024]", "f32[256,1024]"),
            id="a number that two library calls multiply by is an array",
        ),
        pytest.param(
            lambda x, a, b: ((x @ a * 3).max(-1), (x @ b * 2).max(-1)),
            ("f32[2048,256]", "f32[256,1024]", "f32[256,1024]"),
            id="a number of one library call is none",
        ),
        pytest.param(
            lambda a, b: b @ a.T,
            ("f32[1024,512]", "f32[2048,512]"),
            id="a transpose of the last two axes is a part of the product",
        ),
        pytest.param(
            lambda a, b: b @ a.transpose(1, 0, 2),
            ("f32[16,256,64]", "f32[256,64,16]"),
            id="a transpose of a batch axis is an array",
        ),
        pytest.param(
            lambda c, p: lax.scan(lambda c, _: (jnp.tanh(c) * -p, None), c, None, length=10)[0],
            ("f32[1024,1024]", "f32[1024,1024]"),
            id="what each iteration would compute alike is computed before the loop",
        ),
        pytest.param(
            lambda c, p: lax.scan(lambda c, _: (jnp.tanh(c) * p.T, None), c, None, length=10)[0],
            ("f32[1024,1024]", "f32[1024,1024]"),
            id="a transpose alone stays in the loop",
        ),
    ],
)
def test_a_cpu_transposes_and_stores_what_xla_transposes_and_stores(fn, shapes):
    arguments = [jax.ShapeDtypeStruct(f32(shape).shape, f32(shape).dtype) for shape in shapes]
    used = jax.jit(fn).lower(*arguments).compile().memory_analysis().temp_size_in_bytes
    found = memory(fn, *shapes, model=XLA_CPU)
    assert found.parts["temporaries"] == pytest.approx(used, rel=0.01, abs=256)


def test_ragged_products_of_a_cpu_store_their_masks_and_their_operands_in_both_orders():
    def loss(w, x, sizes):
        hidden = jnp.tanh(lax.ragged_dot(x, w, sizes))
        return jnp.square(lax.ragged_dot(hidden, w.swapaxes(1, 2), sizes)).sum()

    args = jnp.zeros((4, 256, 512)), jnp.zeros((1024, 256)), jnp.zeros(4, jnp.int32)
    used = jax.jit(jax.grad(loss)).lower(*args).compile().memory_analysis()
    found = memory(jax.grad(loss), "f32[4,256,512]", "f32[1024,256]", "i32[4]", model=XLA_CPU)
    assert found.parts["temporaries"] == pytest.approx(used.temp_size_in_bytes, rel=0.1)


def residual_layers(ws, x, *, remat):
    def layer(w1, w2, x):
        return x + jnp.tanh(jnp.tanh(x @ w1) @ w2)

    for w1, w2 in ws:
        x = (jax.checkpoint(layer) if remat else layer)(w1, w2, x)
    return jnp.square(x).mean()


# XLA for an H100: temp_size_in_bytes.
@pytest.mark.parametrize(("remat", "xla"), [(True, 125_830_432), (False, 335_544_592)])
def test_a_gpu_recomputes_a_block_only_when_the_backward_pass_arrives_there(remat, xla):
    def loss(ws, x):
        return residual_layers(ws, x, remat=remat)

    ws = [(f32("f32[512,2048]"), f32("f32[2048,512]"))] * 6
    found = costax.analyze(jax.grad(loss))(ws, f32("f32[4096,512]")).memory
    assert found.parts["temporaries"] == pytest.approx(xla, rel=1e-3)


@pytest.mark.parametrize(
    "size", [pytest.param(2, id="a position for each window"), pytest.param(1, id="windows of one element")]
)
def test_the_gradient_of_a_maximum_over_windows_takes_an_index_for_each_axis_on_a_cpu(size):
    def loss(x):
        window = (1, size, size, 1)
        return jnp.square(lax.reduce_window(jnp.tanh(x), -jnp.inf, lax.max, window, window, "SAME")).sum()

    argument = jax.ShapeDtypeStruct((16, 64, 64, 32), jnp.float32)
    used = jax.jit(jax.grad(loss)).lower(argument).compile().memory_analysis().temp_size_in_bytes
    found = memory(jax.grad(loss), "f32[16,64,64,32]", model=XLA_CPU)
    assert found.parts["temporaries"] == pytest.approx(used, rel=1e-3)
    # Four arrays of the size of the argument for the indices, and those of the positions.
    array = 16 * 64 * 64 * 32 * 4
    assert found.parts["temporaries"] > 5 * array


def test_a_cpu_removes_the_barrier_of_a_recomputation_before_it_makes_the_schedule():
    ws = [(f32("f32[512,2048]"), f32("f32[2048,512]"))] * 6
    by_remat = [
        costax.analyze(jax.grad(lambda ws, x, remat=remat: residual_layers(ws, x, remat=remat)))(
            ws, f32("f32[4096,512]")
        ).memory.compiled_by(XLA_CPU)
        for remat in (False, True)
    ]
    plain, remat = (found.parts["temporaries"] for found in by_remat)
    assert remat > 0.9 * plain


# XLA for an H100: the zeros of all tables of one shape are filled by one kernel.
@pytest.mark.parametrize(("shapes", "xla"), [([50000] * 5, 64_000_040), (range(50000, 50040, 8), 12_808_192)])
def test_the_gradients_of_several_lookups_are_filled_with_zeros_together(shapes, xla):
    def loss(tables, i):
        return sum(jnp.square(table[i]).sum() for table in tables)

    def step(tables, i):
        return [table - 0.1 * g for table, g in zip(tables, jax.grad(loss)(tables, i), strict=True)]

    tables = [f32(f"f32[{rows},64]") for rows in shapes]
    found = costax.analyze(jax.jit(step, donate_argnums=0))(tables, f32("i32[512]")).memory
    assert found.parts["temporaries"] == pytest.approx(xla, rel=1e-3)


def test_a_cast_from_64_bits_is_no_part_of_a_product_of_triton():
    def fn(a, b):
        return a.astype(jnp.float32).T @ b

    with jax.enable_x64(True):
        wide, narrow = (
            costax.analyze(fn)(jax.ShapeDtypeStruct((2048, 2048), dtype), f32("f32[2048,64]")).memory
            for dtype in (jnp.float64, jnp.bfloat16)
        )
    # XLA for an H100: wrapped_convert = f32[2048,2048].
    assert wide.parts["temporaries"] >= 2048 * 2048 * 4
    assert narrow.parts["temporaries"] < 2048 * 2048 * 4


def test_a_product_that_contracts_several_axes_is_split_like_one_that_contracts_one():
    def contract(a, b):
        axes = tuple(range(a.ndim - 1))
        return lax.dot_general(a, b, ((axes, axes), ((), ())))

    # XLA for an H100: gemm_fusion_dot.1 = f32[16,256,512].
    parts = 16 * 256 * 512 * 4
    several = memory(contract, "f32[4,64,32,256]", "f32[4,64,32,512]")
    one = memory(contract, "f32[8192,256]", "f32[8192,512]")
    assert several.parts["temporaries"] == pytest.approx(parts, rel=1e-3)
    assert one.parts["temporaries"] == several.parts["temporaries"]


def test_parts_that_are_no_whole_tiles_are_joined_before_the_product():
    def three(x, q, k, v, g):
        return jnp.tanh(x @ q) @ g, jnp.tanh(x @ k) @ g, jnp.tanh(x @ v) @ g

    # 4,090 rows are no multiple of 64: the three operands of the second product are one array.
    joined = 3 * 4090 * 512 * 4
    found = memory(three, "f32[4090,512]", *("f32[512,512]",) * 4)
    assert found.parts["temporaries"] >= 2 * joined


def test_zeros_of_loops_inside_a_loop_are_not_alive_together():
    def inner(w, x):
        return lax.scan(lambda c, _: (jnp.tanh(c @ w), c), x, None, length=32)[1].sum(0)

    def body(x, w):
        for _ in range(4):
            x = inner(w, x)
        return x, None

    once = memory(lambda w, x: body(x, w)[0], "f32[256,256]", "f32[512,256]")
    looped = memory(lambda w, x: lax.scan(body, x, w)[0], "f32[3,256,256]", "f32[512,256]")
    stacked = 32 * 512 * 256 * 4
    # The copies of the zeros are fused in the entry computation alone.
    assert once.parts["temporaries"] >= 4 * stacked
    assert looped.parts["temporaries"] < 2.5 * stacked


def test_random_numbers_of_a_cpu_come_from_a_loop_that_copies_what_it_carries():
    def draw(seed):
        return jnp.tanh(jax.random.normal(jax.random.key(seed), (50, 65536))).sum(0)

    compiled = jax.jit(draw).lower(0).compile().memory_analysis()
    found = costax.analyze(draw)(f32("i32[]")).memory.compiled_by(XLA_CPU)
    assert found.parts["temporaries"] == pytest.approx(compiled.temp_size_in_bytes, rel=0.01)
    assert found.parts["temporaries"] >= 4 * 50 * 65536 * 4
    # On a GPU the rounds are unrolled and fused into what uses the numbers.
    assert costax.analyze(draw)(f32("i32[]")).memory.parts["temporaries"] < 50 * 65536 * 4


def test_arguments_that_nothing_reads_are_no_arguments_of_the_compiled_program():
    def fn(x, unused):
        return jnp.tanh(x)

    shapes = "f32[1024,1024]", "f32[2048,1024]"
    compiled = jax.jit(fn).lower(*(jax.ShapeDtypeStruct(n, jnp.float32) for n in ((1024, 1024), (2048, 1024))))
    arguments = compiled.compile().memory_analysis().argument_size_in_bytes
    assert memory(fn, *shapes, model=XLA_CPU).parts["arguments"] == arguments == 1024 * 1024 * 4


def test_an_interpolation_is_a_doubt_for_it_gathers_many_times_in_one_kernel():
    def turned(image, at):
        return jax.vmap(lambda at: jax.scipy.ndimage.map_coordinates(image, list(at), 1).sum(0))(at)

    found = memory(turned, "f32[256,256]", "f32[8,2,256,256]")
    assert "many gathers in one kernel" in found.doubts
    assert found.bounds[1] >= found.framework_peak
    assert not memory(lambda x, i: x[i] * 2, "f32[256,256]", "i32[64]").doubts


def test_matrices_that_one_loop_stacks_for_another_are_a_doubt_for_their_layout_is_open():
    def loss(x, *, matrices):
        def step(memory, t):
            if matrices:
                memory = memory * jnp.tanh(memory).sum(-1, keepdims=True) + t[..., None]
                return memory, memory.sum(-1)
            t = jnp.tanh(memory.sum(-1) + t)
            return memory + t[..., None], t

        first = jnp.zeros((*x.shape[1:], 48))
        return jnp.square(lax.scan(step, first, x)[1]).sum()

    for matrices in (True, False):
        found = memory(jax.grad(lambda x, m=matrices: loss(x, matrices=m)), "f32[64,8,48]")
        assert ("layouts of stacked arrays" in found.doubts) == matrices
        # The other compilers do not choose layouts for loops.
        assert "layouts of stacked arrays" not in found.compiled_by(XLA_CPU).doubts


def test_a_product_whose_contracted_axes_lie_between_others_is_a_doubt():
    def between(a, b, c):
        return jnp.einsum("npqu,pxqy->nuxy", (a @ b).reshape(64, 64, 64, 64), c)

    def outside(a, b, c):
        return jnp.einsum("pqnu,pxqy->nuxy", (a @ b).reshape(64, 64, 64, 64), c)

    shapes = "f32[4096,128]", "f32[128,4096]", "f32[64,8,64,8]"
    # XLA for an H100 takes 134,217,728 bytes: the product and its transpose, input_transpose_fusion.
    doubtful = memory(between, *shapes)
    assert "interleaved axes of a product" in doubtful.doubts
    assert doubtful.bounds[1] >= 134_217_728
    assert not memory(outside, *shapes).doubts


# Three chains of one kernel each and a last kernel that reads all: 0, 1, 2 -> 3.


def diamond():
    graph = KernelGraph(kernels=[0, 1, 2, 3], arguments=[0], sizes=[0, 10, 1, 5, 1])
    graph.operands = {0: [-1], 1: [-1], 2: [0], 3: [1, 2]}
    graph.users = {-1: [0, 1], 0: [2], 1: [3], 2: [3], 3: []}
    graph.reads = {0: (0,), 1: (0,), 2: (1,), 3: (2, 3)}
    graph.defines = {0: (1,), 1: (2,), 2: (3,), 3: (4,)}
    graph.roots = [3]
    return graph


def test_schedules_follow_their_rule():
    assert breadth_first(diamond()) == [0, 1, 2, 3]
    # Kernel 1 allocates least, and 2 frees what 0 allocates.
    assert list_order(diamond()) == [1, 0, 2, 3]
    assert post_order(diamond()) == [1, 0, 2, 3]
    # The history of kernel 2 has more bytes, so it is visited first.
    assert depth_first(diamond()) == [0, 2, 1, 3]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_models_hold_on_the_programs_of_the_benchmark(monkeypatch):
    pytest.importorskip("optax")
    if jax.device_count() < 8:
        pytest.skip("the sharded programs need 8 devices")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "memory", raising=False)
    from memory import compare_kinds, figures

    bars = json.loads((ROOT / "benchmarks" / "memory_bars.json").read_text())
    rows = compare_kinds()
    for target, bar in bars.items():
        found = figures(rows[target])
        assert found["median error"] <= bar["median error"]
        assert found["within 25 %"] >= bar["within 25 %"]
        assert found["silently below"] <= bar["silently below"]
        # The bars bite: estimates that are 30 % too low miss them.
        low = figures([(name, int(0.7 * e), truth, ()) for name, e, truth, _ in rows[target]])
        assert low["median error"] > bar["median error"]
        assert low["silently below"] > bar["silently below"]
