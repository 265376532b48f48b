"""Memory: live ranges against arrays that are really alive, and the fused estimate against XLA."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import costax
from corpus import made, programs
from costax.performance.memory import XLA_GPU_H100, MemoryProfile
from costax.program.targets import load_target

ROOT = Path(__file__).resolve().parents[2]
f32 = costax.spec


def analysis(fn, *args, **options):
    return costax.analyze(fn, **options)(*args)


def really_alive(fn, *args) -> int:
    """Run a program equation by equation, forget what is not read again, and ask jax how many bytes are alive."""
    jaxpr = jax.make_jaxpr(fn)(*args).jaxpr
    before = {id(x) for x in jax.live_arrays()}
    values = {var: jnp.zeros(var.aval.shape, var.aval.dtype) + 1 for var in jaxpr.invars}
    last = {v: i for i, eqn in enumerate(jaxpr.eqns) for v in eqn.invars if not hasattr(v, "val")}
    kept = {*jaxpr.invars, *jaxpr.outvars}
    most = 0

    def read(atom):
        return atom.val if hasattr(atom, "val") else values[atom]

    for i, eqn in enumerate(jaxpr.eqns):
        out = eqn.primitive.bind(*map(read, eqn.invars), **eqn.params)
        values.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out], strict=True))
        del out
        jax.block_until_ready(list(values.values()))
        most = max(most, sum(x.nbytes for x in jax.live_arrays() if id(x) not in before and x.size > 1))
        for var in [v for v in values if last.get(v, -1) <= i and v not in kept]:
            del values[var]
    return most


def chain(x, w):
    for _ in range(4):
        x = lax.tanh(lax.dot(x, w))
    return x


def residual(x, w):
    y = lax.tanh(lax.dot(x, w))
    z = lax.exp(lax.dot(y, w))
    return lax.add(lax.add(x, y), lax.dot(z, w))


def fan(x, w):
    parts = [lax.dot(x, w) for _ in range(3)]
    return lax.add(parts[0], lax.add(parts[1], parts[2]))


@pytest.mark.parametrize("fn", [chain, residual, fan], ids=lambda fn: fn.__name__)
def test_the_framework_peak_is_what_is_alive_when_each_equation_is_run_by_itself(fn):
    args = f32("f32[64,64]"), f32("f32[64,64]")
    assert analysis(fn, *args).peak_bytes == really_alive(fn, *args)


def test_the_gradient_keeps_what_its_backward_pass_reads():
    def loss(w, x):
        return chain(x, w).sum()

    args = f32("f32[64,64]"), f32("f32[64,64]")
    assert analysis(jax.grad(loss), *args).peak_bytes == really_alive(jax.grad(loss), *args)


def test_a_scan_allocates_its_stacked_results_for_the_whole_loop():
    def fn(x, w):
        return lax.scan(lambda c, _: (jnp.tanh(c @ w), c), x, None, length=10)

    found = analysis(fn, f32("f32[8,8]"), f32("f32[8,8]"))
    stacked = 10 * 8 * 8 * 4
    assert stacked + 3 * 256 <= found.peak_bytes <= stacked + 6 * 256


def test_the_memory_of_a_loop_does_not_grow_with_its_length():
    def fn(x, n):
        return lax.fori_loop(0, n, lambda _, c: jnp.sin(c) @ c, x)

    def peak(n):
        return analysis(lambda x: fn(x, n), f32("f32[32,32]")).peak_bytes

    assert peak(2) == peak(10**9)


def test_a_choice_takes_the_branch_that_needs_most():
    def small(x):
        return x + 1

    def large(x):
        return (x @ x @ x) @ jnp.ones((64, 64))

    def peak(*branches):
        return analysis(lambda i, x: lax.switch(i, branches, x), f32("i32[]"), f32("f32[64,64]")).peak_bytes

    assert peak(small, large) == peak(large, large)
    assert peak(small, small) < peak(large, large)


def test_a_donated_argument_lends_its_place_to_a_result():
    def step(w, g):
        return w - 0.1 * g

    args = f32("f32[1024,1024]"), f32("f32[1024,1024]")
    size = 4 * 2**20
    # XLA: arguments 8 MiB, output 4 MiB, alias 4 MiB where it is donated.
    assert analysis(step, *args).fused_peak_bytes == 3 * size
    assert analysis(jax.jit(step, donate_argnums=0), *args).fused_peak_bytes == 2 * size


def test_an_update_in_place_needs_no_second_array():
    def fn(x, row):
        return lax.dynamic_update_slice(jnp.sort(x), row, (0, 0))

    found = analysis(fn, f32("f32[512,512]"), f32("f32[1,512]"))
    assert found.peak_bytes < 2 * 512 * 512 * 4 + 3 * 512 * 4


def test_each_device_of_a_mesh_holds_its_shard():
    from jax.sharding import AbstractMesh, AxisType
    from jax.sharding import PartitionSpec as P

    mesh = AbstractMesh((8,), ("x",), axis_types=(AxisType.Auto,))
    fn = jax.shard_map(lambda x: jnp.tanh(x) * 2, mesh=mesh, in_specs=P("x"), out_specs=P("x"))
    found = analysis(fn, f32("f32[1024,8]"))
    assert found.fused_peak_bytes == 2 * 1024 * 8 * 4 // 8


def test_remat_saves_what_is_saved():
    def loss(w, x):
        block = jax.checkpoint(lambda c, _: (jnp.tanh(jnp.tanh(jnp.tanh(c @ w) @ w) @ w), None))
        return lax.scan(block, x, None, length=16)[0].sum()

    def plain(w, x):
        return lax.scan(lambda c, _: (jnp.tanh(jnp.tanh(jnp.tanh(c @ w) @ w) @ w), None), x, None, length=16)[0].sum()

    args = f32("f32[128,128]"), f32("f32[128,128]")
    again, kept = (analysis(jax.grad(f), *args) for f in (loss, plain))
    assert again.peak_bytes < 0.6 * kept.peak_bytes
    one = 16 * 128 * 128 * 4
    assert sum(r.nbytes for r in again.saved_residuals() if r.stacked) == one
    assert sum(r.nbytes for r in kept.saved_residuals() if r.stacked) >= 4 * one


def test_each_checkpoint_policy_saves_what_it_says():
    def loss(w, x):
        with jax.named_scope("first"):
            h = jnp.tanh(x @ w)
        with jax.named_scope("second"):
            return jnp.sin(h @ w).sum()

    found = costax.saved_by_policy(loss)(f32("f32[64,64]"), f32("f32[32,64]"))
    assert found["nothing_saveable"].nbytes == 0
    # Two products of 32 x 64 float32 numbers.
    assert found["dots_saveable"].nbytes == 2 * 32 * 64 * 4
    assert set(found["dots_saveable"].by_scope()) == {"first", "second"}
    order = ["nothing_saveable", "dots_saveable", "everything_saveable"]
    assert [found[name].nbytes for name in order] == sorted(found[name].nbytes for name in order)
    assert found["nothing_saveable"].flops > found["everything_saveable"].flops


def test_what_is_saved_is_what_jax_says():
    from jax._src.ad_checkpoint import saved_residuals

    def loss(w, x):
        return jnp.sin(jnp.tanh(x @ w) @ w).sum()

    args = f32("f32[64,64]"), f32("f32[32,64]")
    theirs = [
        aval.size * aval.dtype.itemsize
        for aval, what in saved_residuals(jax.checkpoint(loss, policy=jax.checkpoint_policies.dots_saveable), *args)
        if "argument" not in what
    ]
    ours = costax.saved_by_policy(loss)(*args)["dots_saveable"]
    assert ours.nbytes == sum(theirs)


def test_an_unknown_policy_is_an_error():
    with pytest.raises(TypeError, match="no checkpoint policy"):
        costax.saved_by_policy(chain, ["all_saveable"])


def test_the_largest_buffers_say_what_they_are_and_why_they_are_kept():
    def loss(w, x):
        with jax.named_scope("layer"):
            h = jnp.tanh(x @ w)
        return (h * h).sum()

    found = analysis(jax.grad(loss), f32("f32[256,256]"), f32("f32[2048,256]"))
    buffers = found.live_at_peak(3)
    assert [b.nbytes for b in buffers] == sorted((b.nbytes for b in buffers), reverse=True)
    assert any(b.why.startswith("saved for the backward pass") and b.scope == "layer" for b in buffers)
    assert any(b.why == "an argument that is not donated" for b in found.live_at_peak(None))
    made_here = [b for b in buffers if b.primitive not in ("argument", "constant")]
    assert all("test_memory.py" in b.source for b in made_here)


def test_the_timeline_has_the_peak_in_it():
    found = analysis(residual, f32("f32[64,64]"), f32("f32[64,64]"))
    moments = found.memory_timeline()
    assert max(moment.nbytes for moment in moments) == found.peak_bytes
    assert [moment.step for moment in moments] == list(range(len(moments)))


def test_what_lives_at_the_peak_adds_up_to_it():
    found = analysis(residual, f32("f32[64,64]"), f32("f32[64,64]"))
    assert sum(buffer.nbytes for buffer in found.live_at_peak(None)) == found.peak_bytes


def test_a_record_has_no_memory_and_says_so(tmp_path):
    path = tmp_path / "a.json"
    analysis(residual, f32("f32[4,4]"), f32("f32[4,4]")).save(path)
    with pytest.raises(TypeError, match="loaded from a record"):
        _ = costax.load(path).peak_bytes


# XLA's buffer assignment.

RECORD = json.loads((ROOT / "tests" / "data" / "h100_memory.json").read_text())
# XLA aligns every buffer to so many bytes.
ALIGNMENT = 256
# Below 4 KiB alignment and tables of pointers weigh as much as the arrays: such programs have bars of their own.
SMALL = 4096


def estimates():
    for program in programs(devices=jax.device_count()):
        if program.name in RECORD:
            try:
                fn, args = made(program)
            except pytest.skip.Exception:
                continue
            yield program.name, costax.analyze(fn)(*args)
    for name in (
        "resnet.py:resnet50",
        "gpt2.py:gpt2_train_step",
        "lstm.py:lstm_train_step",
        "mlp_train.py:mlp_forward",
    ):
        yield f"examples/{name}", costax.analyze(load_target(f"{ROOT / 'examples' / name}"))()


def missed_bars(rows) -> set[str]:
    """The bars that the (estimate, XLA's bytes, doubts) of the programs do not reach, by name."""
    small = [(estimate, truth) for estimate, truth, _ in rows if truth < SMALL]
    large = [(estimate, truth) for estimate, truth, _ in rows if truth >= SMALL]
    silent = [truth for e, truth, doubts in rows if e < 0.75 * truth and not doubts]
    bars = {
        # The arguments and results of a small program are most of it, and those are known exactly.
        "small, exact": sum(e == t for e, t in small) >= 0.55 * len(small),
        "small, within one alignment": sum(abs(e - t) <= ALIGNMENT for e, t in small) >= 0.75 * len(small),
        "small, within 25 %": sum(abs(e - t) <= 0.25 * t for e, t in small) >= 0.75 * len(small),
        "large, median": median(abs(e - t) / t for e, t in large) <= 0.10,
        "large, within 10 %": sum(abs(e - t) <= 0.10 * t for e, t in large) >= 0.5 * len(large),
        "large, within 25 %": sum(abs(e - t) <= 0.25 * t for e, t in large) >= 0.84 * len(large),
        # A buffer of one alignment more or less is a quarter of many small programs.
        "too low without a doubt, programs": len(silent) <= 0.065 * len(rows),
        "too low without a doubt, large programs": sum(t >= SMALL for t in silent) <= 0.04 * len(large),
    }
    return {name for name, reached in bars.items() if not reached}


@pytest.mark.slow
def test_the_fused_estimate_is_near_what_xla_takes_on_an_h100():
    rows = []
    arguments = 0
    for name, found in estimates():
        argument, output, alias, temp = RECORD[name]
        rows.append((found.fused_peak_bytes, argument + output - alias + temp, found.memory.doubts))
        arguments += found.memory.parts["arguments"] == argument
    assert sum(truth < SMALL for _, truth, _ in rows) >= 250
    assert sum(truth >= SMALL for _, truth, _ in rows) >= 80
    # In the others XLA drops an argument that no instruction reads.
    assert arguments >= 0.97 * len(rows)
    assert missed_bars(rows) == set()
    # The bars bite: estimates that are 10 or 30 % too high, or 30 % too low, miss them.
    for factor, missed in (
        (1.1, {"small, exact", "large, median", "large, within 10 %", "large, within 25 %"}),
        (1.3, {"small, within one alignment", "small, within 25 %", "large, within 25 %"}),
        (0.7, {"large, within 25 %", "too low without a doubt, programs"}),
    ):
        assert missed <= missed_bars([(factor * estimate, truth, doubts) for estimate, truth, doubts in rows])


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.filterwarnings("ignore")
def test_the_fused_estimate_holds_on_programs_that_it_was_not_tuned_to(monkeypatch):
    pytest.importorskip("diffrax")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from sample import PROGRAMS

    rows = []
    for name, make in PROGRAMS.items():
        fn, args = make()
        found = costax.analyze(fn)(*args)
        argument, output, alias, temp = RECORD[f"sample/{name}"]
        rows.append((name, found.fused_peak_bytes / (argument + output - alias + temp), found.memory.doubts))
    assert len(rows) == 46
    assert median(abs(ratio - 1) for _, ratio, _ in rows) <= 0.15
    assert sum(abs(ratio - 1) <= 0.25 for _, ratio, _ in rows) >= 0.8 * len(rows)
    # Two come out 27 % below with nothing that would say so.
    assert sum(ratio < 0.75 and not doubts for _, ratio, doubts in rows) <= 2
    assert not [name for name, ratio, doubts in rows if ratio < 0.7 and not doubts]


def rolled(u):
    def step(_, u):
        return u + 0.1 * (jnp.roll(u, 1, 0) + jnp.roll(u, -1, 0) - 2 * u)

    return lax.fori_loop(0, 100, step, u)


def forces(x):
    d = x[:, None] - x
    r = (d**2).sum(-1) + 1e-3
    return (d * (1.0 / (r * jnp.sqrt(r)))[..., None]).sum(1)


def outer(x, y):
    return jnp.sum(jnp.einsum("ni,nj->nij", x, y) ** 2, axis=0)


def channels_first(x, k):
    return jax.nn.relu(lax.conv_general_dilated(x, k, (1, 1), "SAME"))


@pytest.mark.parametrize(
    ("fn", "shapes", "taken"),
    [
        # A row that is summed is not overwritten; what is only scaled is.
        (lambda x, w: jax.nn.softmax(x @ w) @ w.T, ("f32[1024,64]", "f32[64,1024]"), 8_388_608),
        (lambda x, w: (x @ w * 2 + 1) @ w.T, ("f32[1024,64]", "f32[64,1024]"), 6_291_456),
        # Neighbours are read before they are overwritten: one buffer is the result's, the next step needs another.
        (rolled, ("f32[1024,1024]",), 4_194_564),
        (lambda u: lax.fori_loop(0, 100, lambda _, u: u * 0.5, u), ("f32[1024,1024]",), 513),
        # A product reads a transposed operand where it lies.
        (lambda a: (a @ a.T).sum(), ("f32[1024,1024]",), 4_198_400),
        # An outer product is worked out where it is used.
        (outer, ("f32[64,128]", "f32[64,128]"), 0),
        # Heavy work is not done again for each of the three coordinates that it is copied to.
        (forces, ("f32[2048,3]",), 16_801_792),
        # Libraries leave their result where their operand was.
        (lambda x: jnp.argsort(x)[:10], ("f32[1048576]",), 8_388_624),
        (lambda a: jnp.linalg.cholesky(a @ a.mT), ("f32[64,128,128]",), 4_194_816),
        # cuDNN has the channels last; a result that has them first is put in order at the end.
        (channels_first, ("f32[8,3,32,32]", "f32[64,3,3,3]"), 2_104_576),
    ],
    ids=["softmax", "scaled", "rolled", "loop", "transposed", "outer", "forces", "argsort", "cholesky", "channels"],
)
def test_temporaries_are_those_of_xla_for_an_h100(fn, shapes, taken):
    # Read off the programs that XLA of jax 0.10.2 compiled ahead of time.
    assert analysis(fn, *map(f32, shapes)).memory.parts["temporaries"] == pytest.approx(taken, rel=0.05)


def test_slices_of_slices_are_a_doubt():
    def fn(a, b):
        return lax.associative_scan(lambda left, right: (left[0] * right[0], right[0] * left[1] + right[1]), (a, b))

    found = analysis(fn, f32("f32[1024,64]"), f32("f32[1024,64]"))
    assert "slices of slices" in found.memory.doubts
    assert not analysis(chain, f32("f32[64,64]"), f32("f32[64,64]")).memory.doubts


@pytest.mark.parametrize(
    ("m", "k", "n", "dtype", "split"),
    [
        (128, 784, 512, "float32", 8),
        (128, 512, 10, "float32", 16),
        (1024, 3072, 768, "float32", 4),
        (197, 768, 2304, "float32", 2),
        (128, 4096, 4096, "bfloat16", 4),
        (1024, 768, 3072, "float32", 1),
    ],
)
def test_products_are_split_as_xla_split_them_for_an_h100(m, k, n, dtype, split):
    # Read off the programs that XLA of jax 0.10.2 compiled ahead of time.
    from costax.performance.memory.workspace import workspace_bytes

    found = analysis(lambda x, w: x @ w, jax.ShapeDtypeStruct((m, k), dtype), jax.ShapeDtypeStruct((k, n), dtype))
    region = found.memory.region
    padded = -(-k // (split * 4)) * split * 4
    copies = 0 if padded == k else (m + n) * padded * 4
    assert workspace_bytes(region.ops[0], region, XLA_GPU_H100) == (0 if split == 1 else split * m * n * 4 + copies)


# Each number of the model of XLA for an H100, in a program whose memory depends on it.


def product(x, w):
    return x @ w


def product_of_positive(x, w):
    return jax.nn.relu(x) @ w


def product_of_sum(x, y, w):
    return (x + y) @ w


def sine_of_product(x, w):
    return jnp.sin(x @ w).sum()


def sum_of_many(*arrays):
    return sum(map(jnp.sin, arrays)).sum()


def pairs(x):
    return (jnp.tanh(x)[:, None] * x).sum(1)


def scaled_by_rows(x):
    return jnp.tanh(x.sum(-1))[:, None] * x


def running_sum(x):
    return lax.associative_scan(jnp.add, x)


def squares(x):
    return lax.fori_loop(0, 100, lambda _, x: x @ x, x)


def two_results(x):
    return x + 1, x * 2


def filtered(side):
    kernel = np.arange(side**2, dtype=np.float32).reshape(side, side, 1, 1)

    def fn(x):
        return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    return fn


def matrices(m, k, n, dtype="f32"):
    return f"{dtype}[{m},{k}]", f"{dtype}[{k},{n}]"


H100 = XLA_GPU_H100
# Field, other values, program, arguments, and two numbers: argument + output - alias + temp of XLA of jax 0.10.2,
# compiled ahead of time for an H100, and by how much the estimate is below it.
# 252 bytes: of a split product's table of pointers, which takes 256 bytes, the estimate counts one word.
SENSITIVE = [
    ("most_sources", (128,), sum_of_many, ["f32[1024]"] * 65, 270_340, 0),
    ("launch_bytes", (2 * H100.launch_bytes,), pairs, ["f32[1536]"], 18_432, 0),
    ("operations_per_byte", (20.0,), pairs, ["f32[1536]"], 18_432, 0),
    # Kernels of 16 and of 36 bytes.
    ("inline_bytes", (8,), filtered(2), ["f32[8,16,16,1]"], 15_648, 236),
    ("inline_bytes", (64,), filtered(3), ["f32[8,16,16,1]"], 14_720, 180),
    ("product_dtypes", (H100.product_dtypes - {"f32"},), product_of_positive, matrices(64, 64, 64), 49_152, 0),
    ("product_dtypes", (H100.product_dtypes - {"f16"},), product_of_positive, matrices(64, 64, 64, "f16"), 24_576, 0),
    ("product_dtypes", (H100.product_dtypes - {"bf16"},), product_of_positive, matrices(64, 64, 64, "bf16"), 24_576, 0),
    # The sum of two arrays of 1,024 bytes.
    ("product_tolerance", (512,), product_of_sum, ["f32[16,16]"] * 3, 4_096, 0),
    # (8 + 8) * 8 = 128.
    ("smallest_product", (200,), sine_of_product, matrices(8, 8, 8), 772, 0),
    ("shortest_reduction", (4,), scaled_by_rows, ["f32[1000000,8]"], 68_000_000, 0),
    ("most_copies", (7, 100), running_sum, ["f32[512]"], 4_480, 64),
    ("largest_kernel", (16,), running_sum, ["f32[512]"], 4_480, 64),
    ("tile", (64, 256), product, matrices(1024, 3072, 768), 37_748_736, 252),
    ("multiprocessors", (66,), product, matrices(1024, 3072, 768), 37_748_736, 252),
    ("most_parts", (1024,), product, matrices(16, 2**24, 16), 2_149_581_824, 252),
    ("vector_bytes", (8, 32), product, matrices(128, 784, 512), 6_414_336, 252),
    ("compute_weight", (50.0, 200.0), product, matrices(197, 768, 2304), 13_129_728, 252),
    ("memory_weight", (0.1, 0.4), product, matrices(2, 2**19, 2), 8_392_720, 252),
    ("sum_weight", (90.0, 400.0), product, matrices(197, 768, 2304), 13_129_728, 252),
    ("sum_launch", (2 * H100.sum_launch,), product, matrices(16, 1024, 16), 148_480, 252),
    ("sum_launch", (H100.sum_launch / 2,), product, matrices(8, 1024, 16), 98_816, 0),
    # A workspace and a table of pointers.
    ("library_workspace", (32 << 20,), product, matrices(256, 128, 64, "c64"), 4_653_312, 508),
    ("alignment", (128, 512), squares, ["f32[64,64]"], 49_412, 0),
    ("word", (8,), squares, ["f32[64,64]"], 49_412, 0),
    ("pointer", (16,), two_results, ["f32[64]"], 784, 0),
]


@pytest.mark.parametrize(
    ("name", "others", "fn", "shapes", "xla", "below"),
    SENSITIVE,
    ids=[f"{row[0]}-{i}" for i, row in enumerate(SENSITIVE)],
)
def test_every_number_of_the_compiler_model_decides_about_the_memory_of_a_program(name, others, fn, shapes, xla, below):
    profile = analysis(fn, *map(f32, shapes)).memory
    assert profile.fused_estimate == xla - below
    for other in others:
        changed = MemoryProfile(profile.region, replace(XLA_GPU_H100, **{name: other}))
        assert changed.fused_estimate != xla - below, other


def test_every_number_of_the_compiler_model_is_tried():
    # In `test_compiler_models.py`: what tells the compilers apart. `bounds` are of the estimate as a whole.
    others = {"name", "kind", "schedule", "on_chip", "largest_merged", "bounds"}
    assert {row[0] for row in SENSITIVE} == {field.name for field in fields(XLA_GPU_H100)} - others
