"""Contractions: MACs against enumeration, XLA, and programs whose true figures are published."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import costax
from costax.core.equation import Equation, Operand

spec = costax.spec


def cost(function, *args):
    return costax.analyze(function)(*map(spec, args)).total


@dataclass(frozen=True, eq=False)
class Dot:
    """A dot_general: one letter an axis; a letter of both sides is contracted or batch."""

    lhs: tuple[str, ...]
    rhs: tuple[str, ...]
    batch: tuple[str, ...]
    contracted: tuple[str, ...]
    extents: dict[str, int]

    @property
    def args(self):
        return [spec(f"f32[{','.join(str(self.extents[axis]) for axis in side)}]") for side in (self.lhs, self.rhs)]

    def __call__(self, lhs, rhs):
        def axes(letters):
            return [self.lhs.index(x) for x in letters], [self.rhs.index(x) for x in letters]

        return lax.dot_general(lhs, rhs, (axes(self.contracted), axes(self.batch)))

    def enumerated(self) -> int:
        """Go through every pair of elements, and count those that agree on the axes that both have."""
        shared = self.batch + self.contracted

        def elements(side):
            indices = product(*(range(self.extents[axis]) for axis in side))
            return [dict(zip(side, index, strict=True)) for index in indices]

        pairs = product(elements(self.lhs), elements(self.rhs))
        return sum(all(left[axis] == right[axis] for axis in shared) for left, right in pairs)


@st.composite
def dots(draw):
    kinds = {kind: [f"{kind}{i}" for i in range(draw(st.integers(0, 2)))] for kind in ("batch", "k", "m", "n")}
    extent = st.sampled_from([1, 2, 3] * 3 + [0])
    return Dot(
        lhs=tuple(draw(st.permutations(kinds["batch"] + kinds["k"] + kinds["m"]))),
        rhs=tuple(draw(st.permutations(kinds["batch"] + kinds["k"] + kinds["n"]))),
        batch=tuple(draw(st.permutations(kinds["batch"]))),
        contracted=tuple(draw(st.permutations(kinds["k"]))),
        extents={axis: draw(extent) for axes in kinds.values() for axis in axes},
    )


def multiplications(total):
    """MACs, and FLOPs that are not the two of a MAC."""
    return total.macs + (total.flops - 2 * total.macs)


@settings(max_examples=100, deadline=None)
@given(dots())
def test_macs_are_the_pairs_of_elements_that_meet(dot):
    total = costax.analyze(dot)(*dot.args).total
    assert multiplications(total) == dot.enumerated()
    # without a contracted axis nothing is accumulated
    assert total.macs == (dot.enumerated() if dot.contracted else 0)


@settings(max_examples=40, deadline=None)
@given(dots())
def test_xla_counts_two_flops_a_mac(dot):
    assert jax.jit(dot).lower(*dot.args).cost_analysis().get("flops", 0) == 2 * dot.enumerated()


@settings(max_examples=100, deadline=None)
@given(dots())
def test_a_dot_and_both_of_its_gradients_have_the_same_multiplications(dot):
    lhs, rhs = dot.args
    out = jax.eval_shape(dot, lhs, rhs)
    by_lhs = costax.analyze(lambda a, b, g: jax.vjp(lambda x: dot(x, b), a)[1](g))(lhs, rhs, out)
    by_rhs = costax.analyze(lambda a, b, g: jax.vjp(lambda x: dot(a, x), b)[1](g))(lhs, rhs, out)
    # a gradient sums over the axes that only the other operand has; its result is summed if it has none of its own
    assert multiplications(by_lhs.total) == multiplications(by_rhs.total) == dot.enumerated()


def outer(a, b):
    return jnp.einsum("i,j->ij", a, b)


def scaled(x, scale):
    return jnp.einsum("bd,d->bd", x, scale)


def batched(a, b):
    return jnp.einsum("bi,bj->bij", a, b)


def elementwise(a, b):
    return jnp.einsum("bd,bd->bd", a, b)


@pytest.mark.parametrize(
    ("function", "args", "elements"),
    [
        (scaled, ["f32[7,5]", "f32[5]"], 7 * 5),
        (outer, ["f32[7]", "f32[5]"], 7 * 5),
        (batched, ["f32[3,7]", "f32[3,5]"], 3 * 7 * 5),
        (elementwise, ["f32[7,5]", "f32[7,5]"], 7 * 5),
        (outer, ["c64[7]", "c64[5]"], 7 * 5),
        (lambda a, b: lax.dot_general(a, b, (((), ()), ((0,), (1,)))), ["f32[3,7]", "f32[5,3]"], 3 * 7 * 5),
        (lambda a, x: jax.vmap(outer)(a, x), ["f32[3,7]", "f32[3,5]"], 3 * 7 * 5),
        (lambda a, x, g: jax.vjp(lambda a: a @ x, a)[1](g), ["f32[7,5]", "f32[5]", "f32[7]"], 7 * 5),
    ],
)
def test_a_product_that_contracts_nothing_is_one_multiplication_an_element(function, args, elements):
    total = cost(function, *args)
    assert (total.macs, total.flops) == (0, elements)
    compiled = jax.jit(function).lower(*map(spec, args)).compile()
    assert compiled.cost_analysis()["flops"] == elements


def test_a_product_that_contracts_nothing_is_filed_as_a_multiplication_of_its_dtypes():
    def widened(a, b):
        return lax.dot_general(a, b, (((), ()), ((), ())), preferred_element_type=jnp.float32)

    assert cost(widened, "bf16[7]", "bf16[5]").by_dtype()["bf16*bf16->f32"].flops == 7 * 5
    integers = cost(outer, "i8[7]", "i8[5]")
    assert (integers.macs, integers.flops, integers.ops) == (0, 0, 7 * 5)


@pytest.mark.parametrize("args", [["f32[7,1]", "f32[1,5]"], ["f32[3,7,1]", "f32[3,1,5]"], ["f32[1]", "f32[1]"]])
def test_an_axis_of_extent_one_is_contracted(args):
    total = cost(jnp.matmul, *args)
    elements = jax.eval_shape(jnp.matmul, *map(spec, args)).size
    assert (total.macs, total.flops) == (elements, 2 * elements)


def test_the_formula_of_a_product_holds_where_the_contracted_extent_is_one():
    macs = costax.analyze(jnp.matmul)(spec("f32[7,k]"), spec("f32[k,5]")).formula("macs")
    assert str(macs) == "35*k"
    assert macs(k=1) == cost(jnp.matmul, "f32[7,1]", "f32[1,5]").macs


def test_a_product_that_contracts_nothing_is_no_layer():
    def layer(x, w, scale):
        return scaled(x @ w, scale)

    analysis = costax.analyze(layer, params_argnums=(1, 2))(spec("f32[7,4]"), spec("f32[4,5]"), spec("f32[5]"))
    assert analysis.activations("contractions") == 7 * 5
    assert analysis.activations("mit") == 7 * 4 + 7 * 5
    # torch.einsum multiplies, and FlopCounterMode counts no multiplications
    assert analysis.as_("torch") == 2 * 7 * 4 * 5
    assert analysis.as_("thop") == 7 * 4 * 5


def test_mixed_dots_are_filed_under_operands_and_accumulator():
    def dot(a, b):
        return lax.dot(a, b, preferred_element_type=jnp.float32)

    assert cost(dot, "bf16[4,8]", "bf16[8,3]").by_dtype()["bf16*bf16->f32"].macs == 4 * 8 * 3
    assert cost(lax.dot, "bf16[4,8]", "bf16[8,3]").by_dtype()["bf16"].macs == 4 * 8 * 3


# Ragged dots. Group sizes are data; the count is that of any sizes that cover all rows.

GROUPS = st.lists(st.integers(0, 3), min_size=1, max_size=4)
EXTENT = st.integers(1, 3)


def rows_of(groups):
    """Yield (group, row) for every row."""
    start = 0
    for group, size in enumerate(groups):
        for row in range(start, start + size):
            yield group, row
        start += size


def ragged(numbers):
    return lambda lhs, rhs, groups: lax.ragged_dot_general(lhs, rhs, groups, numbers)


def ragged_numbers(contracting, batch, ragged_axis, group_axes=()):
    return lax.RaggedDotDimensionNumbers((contracting, batch), [ragged_axis], list(group_axes))


@settings(max_examples=50, deadline=None)
@given(GROUPS, EXTENT, EXTENT, EXTENT)
def test_ragged_rows_meet_the_matrix_of_their_group(groups, batch, k, n):
    # (b, m, k) x (g, b, k, n) -> (b, m, n), the groups along m.
    m, g = sum(groups), len(groups)
    products = {(b, row, i, j) for b in range(batch) for _, row in rows_of(groups) for i in range(k) for j in range(n)}
    numbers = ragged_numbers(((2,), (2,)), ((0,), (1,)), 1, [0])
    total = cost(ragged(numbers), f"f32[{batch},{m},{k}]", f"f32[{g},{batch},{k},{n}]", f"i32[{g}]")
    assert total.macs == len(products)


@settings(max_examples=50, deadline=None)
@given(GROUPS, EXTENT, EXTENT, EXTENT)
def test_a_ragged_contraction_sums_each_row_in_one_group(groups, batch, m, n):
    # (b, m, k) x (b, k, n) -> (g, b, m, n), the groups along k.
    k, g = sum(groups), len(groups)
    products = {
        (group, b, i, row, j)
        for group, row in rows_of(groups)
        for b in range(batch)
        for i in range(m)
        for j in range(n)
    }
    numbers = ragged_numbers(((2,), (1,)), ((0,), (0,)), 2)
    total = cost(ragged(numbers), f"f32[{batch},{m},{k}]", f"f32[{batch},{k},{n}]", f"i32[{g}]")
    assert total.macs == len(products)


@settings(max_examples=50, deadline=None)
@given(GROUPS, EXTENT, EXTENT, EXTENT)
def test_a_ragged_batch_is_a_batch(groups, m, k, n):
    # (b, m, k) x (b, k, n) -> (b, m, n), the groups along b.
    batch, g = sum(groups), len(groups)
    products = {(row, i, c, j) for _, row in rows_of(groups) for i in range(m) for c in range(k) for j in range(n)}
    numbers = ragged_numbers(((2,), (1,)), ((0,), (0,)), 0)
    total = cost(ragged(numbers), f"f32[{batch},{m},{k}]", f"f32[{batch},{k},{n}]", f"i32[{g}]")
    assert total.macs == len(products)


def test_a_ragged_dot_and_both_of_its_gradients_have_the_same_macs():
    def gradients(a, b, groups, g):
        return jax.vjp(lambda x, y: lax.ragged_dot(x, y, groups), a, b)[1](g)

    total = cost(gradients, "f32[6,5]", "f32[3,5,4]", "i32[3]", "f32[6,4]")
    assert total.macs == 2 * (6 * 5 * 4)


# Scaled products, which no CPU lowering runs on every jax.


def operand(dtype, *shape):
    return Operand(shape, dtype)


@pytest.mark.parametrize("name", ["scaled_matmul", "scaled_matmul_wrapper"])
def test_scaled_matmul_multiplies_each_operand_by_its_scale(name):
    eqn = Equation(
        name,
        (
            operand("f8_e4m3fn", 2, 4, 64),
            operand("f8_e4m3fn", 2, 8, 64),
            operand("f8_e8m0fnu", 2, 4, 2),
            operand("f8_e8m0fnu", 2, 8, 2),
        ),
        (operand("bf16", 2, 4, 8),),
    )
    counted = costax.rules()[name].function(eqn)
    assert counted.by_dtype()["f8_e4m3fn*f8_e4m3fn->bf16"].macs == 2 * 4 * 8 * 64
    assert counted.by_dtype()["bf16"].flops == 2 * 4 * 64 + 2 * 8 * 64


@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 3), (5, 7)])
def test_symmetric_product_computes_one_triangle(n, k):
    # alpha * sum_k a[i,k] a[j,k] + beta * c[i,j] for j <= i: k products, k - 1 sums, two scalings, one sum.
    steps = [1] * k + [1] * (k - 1) + [1, 1, 1]
    counted = sum(sum(steps) for i in range(n) for _ in range(i + 1))
    product = lambda a, c: lax.linalg.symmetric_product(a, c, alpha=2.0, beta=0.5)  # noqa: E731
    assert cost(product, f"f32[{n},{k}]", f"f32[{n},{n}]").flops == counted


# Programs on which other tools fail, with their true MACs.


def attention(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, implementation="xla")


def lstm(x, w, u, b):
    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ w + h @ u + b, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((x.shape[1], u.shape[0]))
    return lax.scan(step, (zero, zero), x)


def multi_head_attention(x, query, key, value, out):
    def heads(w):
        return (x @ w).reshape(*x.shape[:2], 4, 16)

    return attention(heads(query), heads(key), heads(value)).reshape(x.shape) @ out


@pytest.mark.parametrize(
    ("function", "args", "macs"),
    [
        pytest.param(attention, ["f32[2,128,4,64]"] * 3, 16_777_216, id="scaled dot-product attention"),
        pytest.param(attention, ["f32[1,16,8,32]", *["f32[1,16,4,32]"] * 2], 131_072, id="grouped-query attention"),
        pytest.param(multi_head_attention, ["f32[2,10,64]", *["f32[64,64]"] * 4], 353_280, id="multi-head attention"),
        pytest.param(lstm, ["f32[5,2,16]", "f32[16,128]", "f32[32,128]", "f32[128]"], 61_440, id="LSTM"),
        pytest.param(jnp.matmul, ["f32[4,64]", "f32[64]"], 256, id="matrix x vector"),
        pytest.param(jnp.matmul, ["f32[8]", "f32[8]"], 8, id="vector . vector"),
        pytest.param(jnp.matmul, ["f32[8,32]", "f32[32,64]"], 16_384, id="raw parameter"),
        pytest.param(jnp.matmul, ["f32[4,8]", "f32[5,8,16]"], 2_560, id="broadcast matmul"),
        pytest.param(
            lambda a, b: jnp.einsum("bhi,hij->bhj", a, b), ["f32[4,4,32]", "f32[4,32,32]"], 16_384, id="einsum"
        ),
        pytest.param(lambda e, w, i: e[i] @ w, ["f32[1000,64]", "f32[64,16]", "i32[7]"], 7_168, id="embedding"),
    ],
)
def test_programs_on_which_other_tools_fail(function, args, macs):
    assert cost(function, *args).macs == macs
