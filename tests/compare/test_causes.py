"""Each cause of a difference: a small program in which exactly it must appear, with a number worked out by hand.

What a pass is said to have done is what XLA's own cost analysis says of the modules before and after it, in a dump of
the program without marks. The text of those modules tells which instructions it was.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import costax
from costax import _jax
from costax.compare import causes as cause
from costax.compare import passes
from costax.compare.causes import Pair
from costax.hlo.files import module_of

VECTOR = costax.spec("f32[16]")
SQUARE = costax.spec("f32[8,8]")
ROWS = costax.spec("f32[4,8]")
LARGE = costax.spec("f32[64,64]")
OPTIONS = {"xla_dump_hlo_pass_re": ".*", "xla_dump_hlo_as_proto": True, "xla_dump_emitter_re": "none"}


class Version(NamedTuple):
    """A module as XLA dumped it after a pass: its text, and XLA's own count of FLOPs and transcendentals."""

    name: str
    text: str
    count: tuple[int, int]


@functools.lru_cache(maxsize=4)
def dumped(fn, *args) -> list[Version]:
    """The modules of the program, in the order in which XLA wrote them."""
    with tempfile.TemporaryDirectory() as folder:
        lowered = jax.jit(fn).lower(*args)
        lowered.compile(compiler_options={"xla_dump_to": folder, **OPTIONS})
        paths = [path for path in sorted(Path(folder).iterdir()) if path.name.endswith(".hlo.pb")]
        (first,) = (path for path in paths if "before_optimizations" in path.name)
        (last,) = (path for path in paths if "after_optimizations" in path.name)
        numbered = [path for path in paths if ".after_" in path.name]
        modules = [version(path) for path in (first, *numbered, last)]
        # Since jax 0.12 XLA exchanges jax's markers of shardings before it writes the first module.
        start = Version("", lowered.as_text(dialect="hlo"), count(lowered.cost_analysis()))
        return [start, modules[0]._replace(name="before optimisation"), *modules[1:]]


def count(reported: Mapping[str, float]) -> tuple[int, int]:
    return int(reported.get("flops", 0)), int(reported.get("transcendentals", 0))


def version(path: Path) -> Version:
    module = module_of(path)
    pipeline, _, name = re.sub(r"^.*?\.\d{4}\.", "", path.name).partition(".after_")
    name = name.partition(".")[0]
    # The partitioner runs other passes before XLA dumps what it made itself.
    shown = f"start of {pipeline}" if name == "pipeline-start" else name
    return Version(shown, _jax.hlo_text(module), count(_jax.xla_cost(module)))


def by_xla(fn, *args) -> dict[str, tuple[int, int]]:
    """What each pass changed, those left out that changed nothing."""
    sums: Counter[tuple[str, int]] = Counter()
    for before, after in itertools.pairwise(dumped(fn, *args)):
        for i in range(2):
            sums[after.name, i] += after.count[i] - before.count[i]
    return _without_nothing({name: (sums[name, 0], sums[name, 1]) for name, _ in sums})


def elements(fn, *args, opcode: str) -> dict[str, int]:
    """How many elements more the instructions with an opcode have after each pass, by the text of its modules."""
    changes: Counter[str] = Counter()
    for before, after in itertools.pairwise(dumped(fn, *args)):
        changes[after.name] += sum(sizes(after.text, opcode)) - sum(sizes(before.text, opcode))
    return {name: change for name, change in changes.items() if change}


def sizes(hlo: str, opcode: str) -> list[int]:
    """The elements of every instruction with an opcode, wherever in the module it stands."""
    found = re.findall(rf"= \w+\[([\d,]*)\]\S* {re.escape(opcode)}\(", hlo)
    return [math.prod(int(n) for n in dims.split(",") if n) for dims in found]


def text(fn, *args, compiled=True) -> str:
    lowered = jax.jit(fn).lower(*args)
    return lowered.compile().as_text() if compiled else lowered.as_text(dialect="hlo")


def compared(fn, *args):
    """The comparison; it adds up to what jax itself reports, pass by pass too, and each difference has a name."""
    found = costax.compare(fn)(*args)
    theirs = jax.jit(fn).lower(*args).compile().cost_analysis()
    for name in ("flops", "transcendentals"):
        ours = getattr(found.jaxpr.total, name) + sum(getattr(delta, name) for delta in found.deltas)
        assert ours == theirs.get(name, 0)
    assert not found.unexplained
    ours, by_pass = _without_nothing(found.by_pass()), by_xla(fn, *args)
    if any(name.startswith("start of") for name in by_pass):
        # A pass that runs a pipeline of its own: XLA dumps what it did before where that pipeline starts.
        assert Pair.sum(ours.values()) == Pair.sum(by_pass.values())
    else:
        assert ours == by_pass
    for delta in found.deltas:
        assert bool(delta.pass_name) == (delta.run > 0) == (delta.stage == "compiled")
        assert not delta.pass_name or delta.cause == passes.PLAIN.get(delta.pass_name, delta.pass_name)
        assert bool(delta.equation) == bool(delta.address) or delta.address == ()
    return found


def causes(found) -> dict[str, tuple[int, int]]:
    """FLOPs and transcendentals by cause or by pass, those left out that come to nothing."""
    sums: dict[str, tuple[int, int]] = {}
    for delta in found.deltas:
        label = delta.pass_name or delta.cause
        flops, transcendentals = sums.get(label, (0, 0))
        sums[label] = (flops + delta.flops, transcendentals + delta.transcendentals)
    return _without_nothing(sums)


def parts(found, pass_name: str) -> dict[tuple[int, ...], tuple[int, int]]:
    """What a pass did to each equation, by address."""
    return {
        delta.address: (delta.flops, delta.transcendentals) for delta in found.deltas if delta.pass_name == pass_name
    }


def _without_nothing(sums):
    return {key: tuple(pair) for key, pair in sums.items() if tuple(pair) != (0, 0)}


# jaxpr: the same equations by XLA's rules.


def test_comparisons_and_selections_are_flops_by_convention():
    found = compared(lambda x: jnp.where(x > 0, x, 2.0), VECTOR)
    assert found.jaxpr.total.flops == 0
    assert causes(found) == {cause.CONVENTION: (16 + 16, 0)}
    # The comparison is the first equation. The second calls `where`: its equations have the numbers after it.
    assert [(delta.equation, delta.address) for delta in found.deltas] == [("gt", (1,)), ("select_n", (2, 5))]
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
    found = compared(conv((low, high)), images, kernel)
    assert causes(found) == {cause.PADDING: (-2 * missing * 2 * 3, 0)}
    assert [delta.address for delta in found.deltas] == [(1,)]
    assert causes(compared(conv((0, 0)), images, kernel)) == {}


def repeated(length):
    def fn(w, x):
        return lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=length)[0]

    return fn


@pytest.mark.parametrize("length", [2, 5, 10])
def test_a_loop_is_charged_once_and_its_counter_beside_it(length):
    flops, transcendentals = 2 * 4 * 8 * 8, 4 * 8
    found = compared(repeated(length), SQUARE, ROWS)
    assert causes(found) == {
        cause.LOOP: (-(length - 1) * flops, -(length - 1) * transcendentals),
        # The counter: one comparison and one addition.
        cause.CONTROL: (2, 0),
    }
    assert {(delta.equation, delta.address) for delta in found.deltas} == {
        ("scan", (1,)),
        ("dot_general", (1, 2)),
        ("tanh", (1, 3)),
    }


def test_a_loop_of_one_step_hides_nothing_and_loses_its_counter():
    found = compared(repeated(1), SQUARE, ROWS)
    # XLA removes the comparison and the addition, in as many passes as it likes.
    removed = {name: pair for name, pair in causes(found).items() if name != cause.CONTROL}
    assert causes(found)[cause.CONTROL] == (2, 0)
    assert sum(flops for flops, _ in removed.values()) == -2
    assert removed == by_xla(repeated(1), SQUARE, ROWS)
    assert {delta.address for delta in found.deltas} == {(1,)}


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


# lowered: what jax makes of an equation.


def test_an_expansion_is_what_the_lowered_text_holds():
    found = compared(lax.asin, VECTOR)
    hlo = text(lax.asin, VECTOR, compiled=False)
    flops = sum(sum(sizes(hlo, opcode)) for opcode in ("add", "subtract", "multiply"))
    transcendentals = sum(sum(sizes(hlo, opcode)) for opcode in ("sqrt", "atan2"))
    assert causes(found) == {cause.EXPANSION: (flops, transcendentals - 16)}
    assert [(delta.stage, delta.address) for delta in found.deltas] == [("lowered", (1,))]
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


@pytest.mark.parametrize("equation", ["i,j->ij", "bi,bj->bij"])
def test_the_defect_of_a_product_without_a_contracted_axis_is_an_addition_for_each_element(equation):
    args = costax.spec("f32[7]"), costax.spec("f32[5]")
    if equation.startswith("b"):
        args = costax.spec("f32[3,7]"), costax.spec("f32[3,5]")
    n = math.prod(jax.eval_shape(functools.partial(jnp.einsum, equation), *args).shape)
    found = compared(lambda a, b: jnp.einsum(equation, a, b), *args)
    # the dot is lowered with 2 FLOPs an element; the compiler makes a multiplication of it
    assert causes(found) == {cause.DEFECT: (n, 0), "algsimp": (-n, 0)}
    contracted = compared(jnp.matmul, costax.spec("f32[7,2]"), costax.spec("f32[2,5]"))
    assert cause.DEFECT not in causes(contracted)


def test_a_library_call_is_charged_minus_one_each():
    def factor(x):
        return lax.linalg.cholesky(x, symmetrize_input=False)

    found = compared(factor, SQUARE)
    assert text(factor, SQUARE, compiled=False).count('custom_call_target="lapack') == 1
    (delta,) = (delta for delta in found.deltas if delta.cause == cause.LIBRARY)
    by_rule = found.jaxpr.by_primitive()["cholesky"]
    # jax compares the status of the call with 0, and selects the factor or NaN.
    assert delta.flops == -1 + 1 + 8 * 8 - by_rule.flops
    assert delta.transcendentals == -by_rule.transcendentals
    assert (delta.equation, delta.stage) == ("cholesky", "lowered")
    # What the call does is in what is executed.
    assert found.compiled.executed.flops >= by_rule.flops


def test_a_pass_gives_the_work_to_a_library():
    def largest(x):
        return lax.top_k(x, 2)

    found = compared(largest, VECTOR)
    assert text(largest, VECTOR).count("custom_call_target=") == 1
    # The call counts -1, and nothing else is left.
    assert found.xla["flops"] == -1
    assert {delta.address for delta in found.deltas} == {(1,)}
    (called,) = (delta for delta in found.deltas if "custom-call" in delta.evidence and delta.flops == -1)
    assert called.pass_name in by_xla(largest, VECTOR)
    # 16 elements, each compared with the least of the two.
    assert found.compiled.executed.flops == 16 * 2


# converted: from StableHLO to HLO.


def test_what_the_conversion_folds_stays_if_its_constant_comes_from_outside():
    def scaled(x, c):
        return x * lax.exp(c)

    found = compared(lambda x: scaled(x, lax.full((16,), 2.0)), VECTOR)
    assert causes(found) == {cause.CONVERTED: (0, -16)}
    assert [(delta.stage, delta.equation, delta.address) for delta in found.deltas] == [("converted", "exp", (2,))]
    assert causes(compared(scaled, VECTOR, VECTOR)) == {}


def test_the_conversion_drops_neutral_elements():
    found = compared(lambda x: x * 1.0 + 0.0, VECTOR)
    assert causes(found) == {cause.CONVERTED: (-16 - 16, 0)}
    assert [(delta.equation, delta.flops) for delta in found.deltas] == [("mul", -16), ("add", -16)]
    scalar = costax.spec("f32[]")
    assert causes(compared(lambda x, one, zero: x * one + zero, VECTOR, scalar, scalar)) == {}


def test_the_conversion_drops_an_addition_of_zeros_that_were_put_elsewhere():
    def added(x, y, z):
        zeros, scale = jax.device_put((z, y))
        return x * scale + zeros

    found = compared(lambda x, y: added(x, y, jnp.zeros(16)), VECTOR, VECTOR)
    assert causes(found) == {cause.CONVERTED: (-16, 0)}
    assert [delta.equation for delta in found.deltas] == ["add"]
    assert causes(compared(added, VECTOR, VECTOR, VECTOR)) == {}


# compiled: what each pass did.


def test_merged_equations_are_equal_and_one_of_them_is_enough():
    def twice(a, b):
        return jnp.tanh(a @ b), jnp.cos(a @ b)

    def once(a, b):
        product = a @ b
        return jnp.tanh(product), jnp.cos(product)

    found = compared(twice, SQUARE, SQUARE)
    assert causes(found) == {"cse": (-2 * 8**3, 0)}
    assert elements(twice, SQUARE, SQUARE, opcode="dot") == {"cse": -8 * 8}
    # XLA keeps the first of the two; the second product is the third equation.
    assert parts(found, "cse") == {(3,): (-2 * 8**3, 0)}
    assert {delta.cause for delta in found.deltas} == {"common subexpressions merged"}
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
    # jaxlib 0.12 keeps the products of a checkpoint apart.
    removed = sum(elements(gradient(True), SQUARE, ROWS, opcode="dot").values())
    products = [delta for delta in found.deltas if delta.pass_name and delta.equation == "dot_general"]
    assert sum(delta.flops for delta in products) == removed // (4 * 8) * dot
    # What was removed is the product that the checkpoint computes again, which stands inside its call.
    assert all(len(delta.address) == 2 for delta in products)
    without = compared(gradient(False), SQUARE, ROWS)
    assert not [delta for delta in without.deltas if delta.equation == "dot_general"]


def test_a_product_of_negatives_takes_what_they_negate():
    def negatives(x, y):
        return (-lax.sin(x)) * (-lax.cos(y))

    found = compared(negatives, VECTOR, VECTOR)
    # algsimp multiplies the sine and the cosine; the negations are of no use then.
    assert elements(negatives, VECTOR, VECTOR, opcode="negate") == {"dce": -32}
    assert causes(found) == {"dce": (-16 - 16, 0)}
    assert parts(found, "dce") == {(2,): (-16, 0), (4,): (-16, 0)}
    assert causes(compared(lambda x, y: (-lax.sin(x)) * lax.cos(y), VECTOR, VECTOR)) == {}


def test_a_scatter_into_zeros_adds_into_what_it_would_be_added_to():
    def loss(x, y):
        return jnp.log(jnp.diag(x)).sum() + (jnp.sin(x) @ y).sum()

    found = compared(jax.grad(loss), SQUARE, SQUARE)
    (added,) = (delta for delta in found.deltas if delta.equation == "add_any")
    assert (added.pass_name, added.flops) == ("algsimp", -8 * 8)
    assert elements(jax.grad(loss), SQUARE, SQUARE, opcode="add")["algsimp"] <= -8 * 8


def test_a_pass_folds_constants():
    numbers = np.arange(64, dtype=np.float32)

    def scaled(x, c=numbers):
        return x * lax.reduce(c, np.float32(0), lax.add, (0,))

    found = compared(scaled, VECTOR)
    # The sum of 64 numbers is 63 additions, and the conversion does not compute it.
    assert causes(found)["constant_folding"] == (16 - found.lowered.total.flops, 0)
    assert found.xla["flops"] == 16
    assert {delta.equation for delta in found.deltas} == {"reduce_sum"}
    assert "constant_folding" not in causes(compared(scaled, VECTOR, costax.spec("f32[64]")))


def test_what_is_recomputed_stands_so_often_in_the_compiled_text():
    def used_twice(x, y):
        negative = -x
        return negative.T @ y, negative * y

    found = compared(used_twice, LARGE, LARGE)
    copies = sizes(text(used_twice, LARGE, LARGE), "negate")
    assert copies == [64 * 64] * 2
    assert elements(used_twice, LARGE, LARGE, opcode="negate") == {"fusion": 64 * 64}
    (delta,) = found.deltas
    assert (delta.pass_name, delta.flops, delta.address) == ("fusion", sum(copies) - 64 * 64, (1,))
    assert delta.cause == "operations fused, some of them computed again"
    assert delta.evidence.startswith("nothing became neg")
    # With one user there is one.
    assert causes(compared(lambda x, y: -x * y, LARGE, LARGE)) == {}


def test_exponentials_are_computed_in_each_fusion_that_needs_them():
    def decayed(x, y, z):
        rate = jnp.exp(x)
        return rate + y, jnp.sort(rate * z)

    found = compared(decayed, VECTOR, VECTOR, VECTOR)
    clones = sizes(text(decayed, VECTOR, VECTOR, VECTOR), "exponential")
    assert found.xla["transcendentals"] == sum(clones)
    recomputed = {delta.address: delta.transcendentals for delta in found.deltas if delta.transcendentals}
    assert recomputed == ({(1,): sum(clones) - 16} if len(clones) > 1 else {})


def test_functions_that_are_called_twice_have_a_part_for_each_call():
    @jax.jit
    def layer(x, y):
        negative = -x
        return negative.T @ y, negative * y

    def shared(x, y):
        with jax.named_scope("first"):
            a, b = layer(x, y)
        with jax.named_scope("second"):
            c, d = layer(y, x)
        return a, b, c, d

    found = compared(shared, LARGE, LARGE)
    copies = sizes(text(shared, LARGE, LARGE), "negate")
    assert copies == [64 * 64] * 4
    # The calls are the first and the last equation, those of the function stand between: negation, transpose, ...
    (first,), (second,) = (
        [delta for delta in found.deltas if delta.scope == (name,) and delta.flops] for name in ("first", "second")
    )
    for delta in (first, second):
        assert (delta.pass_name, delta.flops, delta.equation) == ("fusion", 64 * 64, "neg")
        assert delta.address[1] == 2
    assert first.address[0] == 1 < second.address[0]
    # Inlining adds nothing: XLA counts a called function at each call.
    assert "call-inliner" not in causes(found)


def test_upcasts_are_the_converts_of_the_compiled_text():
    def product(a, b):
        return a @ b

    shapes = costax.spec("bf16[16,32]"), costax.spec("bf16[32,8]")
    converts = sizes(text(product, *shapes), "convert")
    # Both operands to float32, and the result back; jaxlib 0.12 multiplies bfloat16 as it is.
    assert sorted(converts) in ([], sorted([16 * 32, 32 * 8, 16 * 8]))
    found = compared(product, *shapes)
    assert sum(flops for flops, _ in causes(found).values()) == sum(converts)
    assert {name: (change, 0) for name, change in elements(product, *shapes, opcode="convert").items()} == causes(found)
    assert {delta.address for delta in found.deltas} <= {(1,)}
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
    assert causes(found) == ({"tree_reduction_rewriter": (flops - (n - 1), 0)} if flops != n - 1 else {})
    if n == 1000:
        # 32 windows of 32, the last of which is padded with 24 zeros.
        assert causes(found) == {"tree_reduction_rewriter": (24, 0)}


def test_a_short_sum_has_no_tree():
    assert causes(compared(jnp.sum, costax.spec("f32[32]"))) == {}


def test_a_division_by_a_row_becomes_a_product():
    def normalised(x, s):
        return x / s[:, None]

    shapes = costax.spec("f32[8,64]"), costax.spec("f32[8]")
    found = compared(normalised, *shapes)
    hlo = text(normalised, *shapes)
    left, made = sum(sizes(hlo, "divide")), sum(sizes(hlo, "multiply"))
    if made:
        assert (left, made) == (8, 8 * 64)
        assert elements(normalised, *shapes, opcode="multiply") == {"algsimp": made}
        assert elements(normalised, *shapes, opcode="divide") == {"algsimp": left - 8 * 64}
        assert causes(found) == {"algsimp": (left + made - 8 * 64, 0)}
        assert parts(found, "algsimp") == {(2,): (8, 0)}
    else:
        # Before jaxlib 0.9 the division stays.
        assert causes(found) == {}
    # Each element by its own divisor stays a division.
    assert causes(compared(lambda x, s: x / s, LARGE, LARGE)) == {}


def test_several_passes_change_one_equation():
    found = compared(lax.lgamma, VECTOR)
    # Which passes and by how much XLA itself says, in `compared`.
    assert {delta.address for delta in found.deltas} == {(1,)}
    assert len({delta.pass_name for delta in found.deltas if delta.pass_name}) >= 2


def test_a_pass_without_plain_words_keeps_its_own_name_as_cause(monkeypatch):
    monkeypatch.setattr(passes, "PLAIN", {})
    found = compared(jnp.sum, costax.spec("f32[1000]"))
    assert [(delta.pass_name, delta.cause) for delta in found.deltas] == [("tree_reduction_rewriter",) * 2]


def test_without_passes_each_equation_has_its_net_change():
    def twice(x):
        return jnp.tanh(x @ x) + jnp.cos(x @ x), lax.lgamma(x)

    whole, net = costax.compare(twice)(SQUARE), costax.compare(twice, passes=False)(SQUARE)
    assert net.passes is None
    assert not net.by_pass()
    assert not net.unexplained
    assert {delta.cause for delta in net.deltas if delta.stage == "compiled"} == {cause.COMPILED}
    for found in (whole, net):
        assert found.jaxpr.total.flops + sum(delta.flops for delta in found.deltas) == found.xla["flops"]
    for address in {delta.address for delta in whole.deltas}:
        sums = [
            [sum(getattr(delta, name) for delta in found.deltas if delta.address == address) for found in (whole, net)]
            for name in ("flops", "transcendentals")
        ]
        assert all(a == b for a, b in sums), address


# xla: float32.


def test_rounding_is_that_of_float32():
    side = costax.spec("f32[4097,4097]")
    exact = 2 * 4097**3
    found = compared(jnp.matmul, side, side)
    rounded = int(np.float32(exact))
    assert rounded != exact
    assert causes(found) == {cause.ROUNDING: (rounded - exact, 0)}
    assert [(delta.stage, delta.address) for delta in found.deltas] == [("xla", ())]
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
    assert re.search(r"\b3 passed", done.stdout)


def on(mesh, shape, *axes):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(*axes)))


@four_devices
def test_one_device_has_a_quarter_of_the_rows():
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",))
    found = compared(jnp.matmul, on(mesh, (16, 32), "d", None), on(mesh, (32, 8), None, None))
    whole = 2 * 16 * 32 * 8
    # jax lowers the whole product, and the partitioner splits it.
    assert found.lowered.total.flops == whole
    assert [(delta.stage, delta.address, delta.flops) for delta in found.deltas] == [
        ("compiled", (1,), whole // 4 - whole)
    ]
    alone = compared(jnp.matmul, on(mesh, (16, 32), None, None), on(mesh, (32, 8), None, None))
    assert causes(alone) == {}


@four_devices
def test_every_device_runs_the_body_of_a_shard_map():
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",))
    found = compared(jax.shard_map(lambda x: jnp.sin(x) * 2.0, mesh=mesh, in_specs=P("d"), out_specs=P("d")), VECTOR)
    assert causes(found)[cause.DEVICES] == (4 - 16, 4 - 16)
    shares = [delta for delta in found.deltas if delta.cause == cause.DEVICES]
    assert [(delta.equation, delta.address[0]) for delta in shares] == [("sin", 1), ("mul", 1)]


@four_devices
def test_a_contraction_over_devices_makes_an_all_reduce():
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",))
    shapes = on(mesh, (16, 32), None, "d"), on(mesh, (32, 8), "d", None)
    product = jax.jit(jnp.matmul, out_shardings=NamedSharding(mesh, P()))
    found = compared(product, *shapes)
    assert sizes(product.lower(*shapes).compile().as_text(), "all-reduce") == [16 * 8]
    whole = 2 * 16 * 32 * 8
    # Both belong to the product, and one step of the partitioner makes them.
    split = [delta for delta in found.deltas if "all-reduce" in delta.evidence]
    assert [(delta.flops, delta.address) for delta in split] == [(whole // 4 + 16 * 8 - whole, (1,))]
    assert found.xla["flops"] == whole // 4 + 16 * 8
