"""Each cause of a difference: a small program in which exactly it must appear, with a number worked out by hand.

What a claim rests on is tried by other means: the text of the compiled module, and the same program without what the
claim blames, in which the difference must be gone.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import costax
from costax.compare import causes as cause

VECTOR = costax.spec("f32[16]")
SQUARE = costax.spec("f32[8,8]")
ROWS = costax.spec("f32[4,8]")
LARGE = costax.spec("f32[64,64]")


def compared(fn, *args):
    """The comparison; it adds up to what jax itself reports, and each difference has a name."""
    found = costax.compare(fn)(*args)
    theirs = jax.jit(fn).lower(*args).compile().cost_analysis()
    for name in ("flops", "transcendentals"):
        ours = getattr(found.jaxpr.total, name) + sum(getattr(delta, name) for delta in found.deltas)
        assert ours == theirs.get(name, 0)
    assert not found.unexplained
    return found


def causes(found) -> dict[str, tuple[int, int]]:
    """FLOPs and transcendentals by cause, those left out that come to nothing."""
    sums: dict[str, tuple[int, int]] = {}
    for delta in found.deltas:
        flops, transcendentals = sums.get(delta.cause, (0, 0))
        sums[delta.cause] = (flops + delta.flops, transcendentals + delta.transcendentals)
    return {cause: pair for cause, pair in sums.items() if pair != (0, 0)}


def text(fn, *args, compiled=True) -> str:
    lowered = jax.jit(fn).lower(*args)
    return lowered.compile().as_text() if compiled else lowered.as_text(dialect="hlo")


def sizes(hlo: str, opcode: str) -> list[int]:
    """The elements of every instruction with an opcode, wherever in the module it stands."""
    found = re.findall(rf"= \w+\[([\d,]*)\]\S* {re.escape(opcode)}\(", hlo)
    return [math.prod(int(n) for n in dims.split(",") if n) for dims in found]


def test_comparisons_and_selections_are_flops_by_convention():
    found = compared(lambda x: jnp.where(x > 0, x, 2.0), VECTOR)
    assert found.jaxpr.total.flops == 0
    assert causes(found) == {cause.CONVENTION: (16 + 16, 0)}
    assert {delta.equation for delta in found.deltas} == {"gt", "select_n"}
    # The maximum with a number does the same and is a FLOP to both.
    assert causes(compared(lambda x: jnp.maximum(x, 2.0), VECTOR)) == {}


def test_integers_are_flops_by_convention():
    assert causes(compared(lambda x: x * 3 + 1, costax.spec("i32[16]"))) == {cause.CONVENTION: (32, 0)}
    assert causes(compared(lambda x: x * 3 + 1, VECTOR)) == {}


def test_padding_taps_are_those_that_meet_no_input():
    width, taps, low, high, stride = 9, 4, 2, 1, 2

    def conv(padding):
        return lambda x, k: lax.conv_general_dilated(x, k, (stride,), (padding,))

    images, kernel = costax.spec(f"f32[1,2,{width}]"), costax.spec(f"f32[3,2,{taps}]")
    starts = range(-low, width + high - taps + 1, stride)
    missing = sum(not 0 <= at + tap < width for at, tap in itertools.product(starts, range(taps)))
    assert missing == 3
    assert causes(compared(conv((low, high)), images, kernel)) == {cause.PADDING: (-2 * missing * 2 * 3, 0)}
    assert causes(compared(conv((0, 0)), images, kernel)) == {}


def repeated(length):
    def fn(w, x):
        return lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=length)[0]

    return fn


@pytest.mark.parametrize("length", [2, 5, 10])
def test_a_loop_is_charged_once_and_its_counter_beside_it(length):
    flops, transcendentals = 2 * 4 * 8 * 8, 4 * 8
    found = causes(compared(repeated(length), SQUARE, ROWS))
    assert found == {
        cause.LOOP: (-(length - 1) * flops, -(length - 1) * transcendentals),
        # The counter: one comparison and one addition.
        cause.CONTROL: (2, 0),
    }
    # A loop of one step hides nothing.
    assert cause.LOOP not in causes(compared(repeated(1), SQUARE, ROWS))


def test_what_is_executed_is_what_the_loop_was_said_to_hide():
    found = compared(repeated(5), SQUARE, ROWS)
    assert found.compiled.executed.transcendentals == found.jaxpr.total.transcendentals == 5 * 4 * 8


def test_the_branch_maximum_is_taken_property_by_property():
    def either(p, x):
        return lax.cond(p, lambda x: jnp.sin(x), lambda x: x @ x, x)

    found = compared(either, costax.spec("bool[]"), SQUARE)
    # The dearer branch is the product; XLA adds the sines of the other one. The predicate becomes an index.
    assert found.jaxpr.total.flops == 2 * 8**3
    assert causes(found) == {cause.BRANCH: (0, 8 * 8), cause.CONVENTION: (1, 0)}
    both = compared(lambda p, x: lax.cond(p, lambda x: x @ x.T, lambda x: x @ x, x), costax.spec("bool[]"), SQUARE)
    assert cause.BRANCH not in causes(both)


def test_an_expansion_is_what_the_lowered_text_holds():
    found = compared(lax.asin, VECTOR)
    hlo = text(lax.asin, VECTOR, compiled=False)
    flops = sum(sum(sizes(hlo, opcode)) for opcode in ("add", "subtract", "multiply"))
    transcendentals = sum(sum(sizes(hlo, opcode)) for opcode in ("sqrt", "atan2"))
    assert causes(found) == {cause.EXPANSION: (flops, transcendentals - 16)}
    # An operation that HLO has too is not expanded.
    assert causes(compared(lax.sin, VECTOR)) == {}


@pytest.mark.parametrize("shape", [(32,), (32, 64), (4, 8, 16)])
def test_the_defect_of_transforms_is_a_product_for_a_sum(shape):
    n, logs = math.prod(shape), [int(math.log2(extent)) for extent in shape]
    found = compared(jnp.fft.fftn, jax.ShapeDtypeStruct(shape, jnp.complex64))
    # 5 n log2 n is the textbook's transform; XLA multiplies the logarithms and charges 8.
    assert causes(found) == {cause.DEFECT: (8 * n * math.prod(logs) - 5 * n * sum(logs), 0)}


def test_the_defect_of_sort_is_that_rows_are_ignored():
    rows, columns = 16, 64
    found = compared(jnp.sort, jax.ShapeDtypeStruct((rows, columns), jnp.float32))
    n = rows * columns
    assert causes(found)[cause.DEFECT] == (n * 10 - n * 6, 0)
    assert causes(found)[cause.CONVENTION] == (n * 6, 0)
    # One row is sorted for what it costs.
    assert cause.DEFECT not in causes(compared(jnp.sort, costax.spec("f32[64]")))


def test_a_library_call_is_charged_minus_one_each():
    def largest(x):
        return lax.top_k(x, 2)

    found = compared(largest, VECTOR)
    calls = text(largest, VECTOR).count("custom_call_target=")
    assert calls == 1
    assert causes(found)[cause.LIBRARY] == (-calls, 0)
    assert found.xla["flops"] == -calls
    # 16 elements, each compared with the least of the two: what the call does is in what is executed.
    assert found.compiled.executed.flops == 16 * 2


def test_merged_equations_are_equal_and_one_of_them_is_enough():
    def twice(a, b):
        return jnp.tanh(a @ b), jnp.cos(a @ b)

    def once(a, b):
        product = a @ b
        return jnp.tanh(product), jnp.cos(product)

    found = compared(twice, SQUARE, SQUARE)
    assert causes(found) == {cause.MERGED: (-2 * 8**3, 0)}
    assert len(sizes(text(twice, SQUARE, SQUARE), "dot")) == 1
    a, b = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
    jaxpr = jax.make_jaxpr(twice)(a, b)
    products = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "dot_general"]
    values = [eqn.primitive.bind(a, b, **eqn.params) for eqn in products]
    assert np.array_equal(*values)
    without = compared(once, SQUARE, SQUARE)
    assert causes(without) == {}
    assert without.xla["flops"] == found.xla["flops"]
    # Products of different operands stay.
    assert causes(compared(lambda a, b: (jnp.tanh(a @ b), jnp.cos(b @ a)), SQUARE, SQUARE)) == {}


def gradient(checkpoint):
    def layer(w, x):
        return jnp.sin(x @ w)

    layer = jax.checkpoint(layer) if checkpoint else layer
    return lambda w, x: jax.grad(lambda w: layer(w, layer(w, x)).sum())(w)


def test_removed_rematerialisation_is_gone_without_the_checkpoint():
    dot = 2 * 4 * 8 * 8
    found = compared(gradient(True), SQUARE, ROWS)
    before = len(sizes(text(gradient(True), SQUARE, ROWS, compiled=False), "dot"))
    after = len(sizes(text(gradient(True), SQUARE, ROWS), "dot"))
    removed = [delta for delta in found.deltas if delta.cause == cause.REMAT and delta.equation == "dot_general"]
    # jaxlib 0.12 keeps the products of a checkpoint apart.
    assert sum(delta.flops for delta in removed) == -(before - after) * dot
    assert bool(removed) == (after < before)
    assert cause.REMAT not in causes(compared(gradient(False), SQUARE, ROWS))


def test_what_is_folded_stays_if_its_constant_comes_from_outside():
    def scaled(x, c):
        return x * lax.exp(c)

    folded = compared(lambda x: scaled(x, lax.full((16,), 2.0)), VECTOR)
    assert causes(folded) == {cause.FOLDED: (0, -16)}
    assert causes(compared(scaled, VECTOR, VECTOR)) == {}


def test_what_is_put_elsewhere_stays_what_it_is():
    def added(x, y, z):
        zeros, scale = jax.device_put((z, y))
        return x * scale + zeros

    found = compared(lambda x, y: added(x, y, jnp.zeros(16)), VECTOR, VECTOR)
    assert causes(found) == {cause.SIMPLIFIED: (-16, 0)}
    assert [delta.evidence for delta in found.deltas] == ["add with 0.0"]
    assert causes(compared(added, VECTOR, VECTOR, VECTOR)) == {}


def test_a_product_of_negatives_takes_what_they_negate():
    found = compared(lambda x, y: (-lax.sin(x)) * (-lax.cos(y)), VECTOR, VECTOR)
    assert causes(found) == {cause.SIMPLIFIED: (-16 - 16, 0)}
    for delta, name in zip(found.deltas, ("sin", "cos"), strict=True):
        took, operand = re.fullmatch(r"(\S+) takes (\S+), its operand, in place of its result", delta.evidence).groups()
        assert (took[:3], operand[:3]) == ("mul", name)
    assert causes(compared(lambda x, y: (-lax.sin(x)) * lax.cos(y), VECTOR, VECTOR)) == {}


def test_a_scatter_inside_a_branch_adds_into_what_it_would_be_added_to():
    def loss(x, y):
        return jnp.log(jnp.diag(x)).sum() + (jnp.sin(x) @ y).sum()

    found = compared(jax.grad(loss), SQUARE, SQUARE)
    (added,) = (delta for delta in found.deltas if delta.equation == "add_any")
    assert (added.cause, added.flops) == (cause.SIMPLIFIED, -8 * 8)
    assert re.fullmatch(r"\S+ adds into its other operand instead of into zeros", added.evidence)


def test_what_is_simplified_stays_if_its_constant_comes_from_outside():
    found = compared(lambda x: x * 1.0 + 0.0, VECTOR)
    assert causes(found) == {cause.SIMPLIFIED: (-16 - 16, 0)}
    assert {delta.evidence for delta in found.deltas} == {"mul with 1.0", "add with 0.0"}
    scalar = costax.spec("f32[]")
    assert causes(compared(lambda x, one, zero: x * one + zero, VECTOR, scalar, scalar)) == {}


def test_what_is_recomputed_stands_so_often_in_the_compiled_text():
    def used_twice(x, y):
        negative = -x
        return negative.T @ y, negative * y

    found = compared(used_twice, LARGE, LARGE)
    copies = sizes(text(used_twice, LARGE, LARGE), "negate")
    assert copies == [64 * 64] * 2
    (delta,) = found.deltas
    assert (delta.cause, delta.flops, delta.count) == (cause.RECOMPUTED, sum(copies) - 64 * 64, len(copies))
    # With one user there is one.
    assert causes(compared(lambda x, y: -x * y, LARGE, LARGE)) == {}


def test_what_is_not_a_copy_is_not_called_recomputed():
    # The compiler makes x - c of x + (-c), and x / c of x * (1 / c): an addition and a multiplication more, no copy.
    found = compared(lax.lgamma, VECTOR)
    before, after = (text(lax.lgamma, VECTOR, compiled=compiled) for compiled in (False, True))
    copied = {delta.evidence.split()[2] for delta in found.deltas if delta.cause == cause.RECOMPUTED}
    for more, fewer in (("add", "subtract"), ("multiply", "divide")):
        if len(sizes(after, fewer)) < len(sizes(before, fewer)):
            assert more not in copied
    assert cause.REWRITTEN in causes(found)


def test_upcasts_are_the_converts_of_the_compiled_text():
    def product(a, b):
        return a @ b

    shapes = costax.spec("bf16[16,32]"), costax.spec("bf16[32,8]")
    converts = sizes(text(product, *shapes), "convert")
    # Both operands to float32, and the result back; jaxlib 0.12 multiplies bfloat16 as it is.
    assert sorted(converts) in ([], sorted([16 * 32, 32 * 8, 16 * 8]))
    assert causes(compared(product, *shapes)) == ({cause.UPCAST: (sum(converts), 0)} if converts else {})
    assert causes(compared(product, costax.spec("f32[16,32]"), costax.spec("f32[32,8]"))) == {}


@pytest.mark.parametrize("n", [1000, 1024, 5000])
def test_a_reduction_tree_adds_what_its_windows_add(n):
    vector = jax.ShapeDtypeStruct((n,), jnp.float32)
    hlo = text(jnp.sum, vector)
    # Each result of a window of k takes k - 1 additions, and the last sum one less than it has terms.
    windows = re.findall(r"= f32\[([\d,]*)\]\S* reduce-window\(.*window=\{size=(\d+)", hlo)
    flops = sum(int(results) * (int(size) - 1) for results, size in windows)
    flops += (int(windows[-1][0]) if windows else n) - 1
    found = compared(jnp.sum, vector)
    assert found.xla["flops"] == flops
    assert causes(found) == ({cause.TREE: (flops - (n - 1), 0)} if flops != n - 1 else {})
    if n == 1000:
        # 32 windows of 32, the last of which is padded with 24 zeros.
        assert causes(found) == {cause.TREE: (24, 0)}


def test_a_short_sum_has_no_tree():
    assert causes(compared(jnp.sum, costax.spec("f32[32]"))) == {}


def test_a_division_by_a_row_becomes_a_product():
    def normalised(x, s):
        return x / s[:, None]

    found = compared(normalised, costax.spec("f32[8,64]"), costax.spec("f32[8]"))
    hlo = text(normalised, costax.spec("f32[8,64]"), costax.spec("f32[8]"))
    left, made = sum(sizes(hlo, "divide")), sum(sizes(hlo, "multiply"))
    if made:
        assert (left, made) == (8, 8 * 64)
        assert causes(found) == {cause.REWRITTEN: (left + made - 8 * 64, 0)}
        assert [delta.evidence for delta in found.deltas] == ["divide became divide, multiply"]
    else:
        # Before jaxlib 0.9 the division stays.
        assert causes(found) == {}
    # Each element by its own divisor stays a division.
    assert causes(compared(lambda x, s: x / s, LARGE, LARGE)) == {}


def test_rounding_is_that_of_float32():
    side = costax.spec("f32[4097,4097]")
    exact = 2 * 4097**3
    found = compared(jnp.matmul, side, side)
    rounded = int(np.float32(exact))
    assert rounded != exact
    assert causes(found) == {cause.ROUNDING: (rounded - exact, 0)}
    even = costax.spec("f32[4096,4096]")
    assert causes(compared(jnp.matmul, even, even)) == {}


# Four devices, in a process of their own.

four_devices = pytest.mark.skipif(jax.device_count() < 4, reason="runs in the process with four devices")


@pytest.mark.slow
@pytest.mark.skipif(jax.device_count() >= 4, reason="this is the process with four devices")
def test_causes_of_sharded_programs_too():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "-k", "device", str(Path(__file__))]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def on(mesh, shape, *axes):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(*axes)))


@four_devices
def test_one_device_has_a_quarter_of_the_rows():
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",))
    found = compared(jnp.matmul, on(mesh, (16, 32), "d", None), on(mesh, (32, 8), None, None))
    whole = 2 * 16 * 32 * 8
    assert causes(found) == {cause.DEVICES: (whole // 4 - whole, 0)}
    alone = compared(jnp.matmul, on(mesh, (16, 32), None, None), on(mesh, (32, 8), None, None))
    assert causes(alone) == {}


@four_devices
def test_every_device_runs_the_body_of_a_shard_map():
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",))
    found = compared(jax.shard_map(lambda x: jnp.sin(x) * 2.0, mesh=mesh, in_specs=P("d"), out_specs=P("d")), VECTOR)
    assert causes(found)[cause.DEVICES] == (4 - 16, 4 - 16)


@four_devices
def test_a_contraction_over_devices_makes_an_all_reduce():
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",))
    shapes = on(mesh, (16, 32), None, "d"), on(mesh, (32, 8), "d", None)
    product = jax.jit(jnp.matmul, out_shardings=NamedSharding(mesh, P()))
    found = compared(product, *shapes)
    assert sizes(product.lower(*shapes).compile().as_text(), "all-reduce") == [16 * 8]
    assert causes(found)[cause.MADE] == (16 * 8, 0)
    assert causes(found)[cause.DEVICES] == (-3 * 2 * 16 * 32 * 8 // 4, 0)
