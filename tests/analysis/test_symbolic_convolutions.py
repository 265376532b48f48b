"""Symbols in convolutions and pools: formulas against the counts of the same program at plain sizes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax

LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}
FIELDS = ("macs", "padding_macs", "flops", "ops", "bytes_unfused")


def convolution(rank, strides, padding, **options):
    strides = (strides,) * rank if isinstance(strides, int) else strides
    return lambda x, w: lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=LAYOUTS[rank], **options)


def transposed(strides, padding):
    return lambda x, w: lax.conv_transpose(x, w, strides, padding, dimension_numbers=LAYOUTS[2])


def weight_gradient(function):
    return jax.grad(lambda w, x: jnp.sum(function(x, w)))


def input_gradient(function):
    return jax.grad(lambda x, w: jnp.sum(function(x, w)))


def both_gradients(function):
    return jax.grad(lambda w, x: jnp.sum(function(x, w) ** 2), (0, 1))


def penalty(function):
    def slope(w, x):
        return jax.grad(lambda x: jnp.sum(function(x, w) ** 2))(x)

    return jax.grad(lambda w, x: jnp.sum(slope(w, x) ** 2), (0, 1))


def pool(function, start, window, stride, padding):
    def pooled(x):
        return lax.reduce_window(x, start, function, (1, window, window, 1), (1, stride, stride, 1), padding)

    return jax.grad(lambda x: jnp.sum(pooled(x) ** 2))


def network(w, second, x):
    def loss(w, second):
        hidden = jax.nn.relu(convolution(2, 2, "SAME")(x, w))
        pooled = lax.reduce_window(hidden, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        return jnp.sum(convolution(2, 2, [(1, 1), (1, 1)])(pooled, second) ** 2)

    return jax.grad(loss, (0, 1))(w, second)


IMAGE, KERNEL = "f32[b,s,s,3]", "f32[3,3,3,8]"


@pytest.mark.parametrize(
    ("function", "args", "least"),
    [
        pytest.param(weight_gradient(convolution(2, 2, "SAME")), [KERNEL, IMAGE], 3, id="weights"),
        pytest.param(input_gradient(convolution(2, 2, "SAME")), [IMAGE, KERNEL], 3, id="input"),
        pytest.param(both_gradients(convolution(2, 3, "SAME")), ["f32[5,5,3,8]", IMAGE], 3, id="stride 3"),
        pytest.param(both_gradients(convolution(2, 4, "SAME")), ["f32[2,2,3,8]", IMAGE], 3, id="stride above taps"),
        pytest.param(both_gradients(convolution(2, 2, "VALID")), [KERNEL, IMAGE], 3, id="VALID"),
        pytest.param(both_gradients(convolution(2, 4, "VALID")), ["f32[4,4,3,8]", IMAGE], 4, id="patches"),
        pytest.param(both_gradients(convolution(2, 2, [(1, 2), (0, 1)])), [KERNEL, IMAGE], 3, id="explicit"),
        pytest.param(
            both_gradients(convolution(2, 2, "SAME", rhs_dilation=(2, 3))), [KERNEL, IMAGE], 3, id="dilated taps"
        ),
        pytest.param(
            both_gradients(convolution(1, 4, [(3, 2)], lhs_dilation=(6,))),
            ["f32[4,3,2]", "f32[b,s,3]"],
            3,
            id="dilated input",
        ),
        pytest.param(
            both_gradients(convolution(1, 2, [(4, 3)], lhs_dilation=(3,))),
            ["f32[4,3,2]", "f32[b,s,3]"],
            3,
            id="stride and dilated input",
        ),
        pytest.param(both_gradients(convolution(2, (3, 2), "SAME")), [KERNEL, "f32[2,s,t,3]"], 3, id="two symbols"),
        pytest.param(both_gradients(convolution(3, 2, "SAME")), ["f32[3,2,1,1,2]", "f32[1,s,7,t,1]"], 3, id="3D"),
        pytest.param(
            both_gradients(convolution(2, 2, "SAME", feature_group_count=3)), ["f32[3,3,1,6]", IMAGE], 3, id="groups"
        ),
        pytest.param(
            both_gradients(convolution(1, 2, "SAME", batch_group_count=2)),
            ["f32[3,3,6]", "f32[4,s,3]"],
            3,
            id="batch groups",
        ),
        pytest.param(both_gradients(transposed((2, 2), "SAME")), [KERNEL, IMAGE], 3, id="transposed"),
        pytest.param(both_gradients(transposed((4, 3), "VALID")), [KERNEL, IMAGE], 3, id="transposed VALID"),
        pytest.param(penalty(convolution(2, 2, "SAME")), [KERNEL, IMAGE], 3, id="gradient penalty"),
        pytest.param(pool(lax.max, -jnp.inf, 3, 2, "SAME"), [IMAGE], 3, id="maximum pool"),
        pytest.param(pool(lax.add, 0.0, 3, 2, "SAME"), [IMAGE], 3, id="average pool"),
        pytest.param(pool(lax.max, -jnp.inf, 2, 3, "VALID"), ["f32[2,s,t,3]"], 3, id="pool of two symbols"),
        pytest.param(network, [KERNEL, "f32[3,3,8,4]", IMAGE], 3, id="network"),
    ],
)
def test_formulas_are_the_counts_at_every_size(function, args, least):
    analysis = costax.analyze(function)(*map(costax.spec, args))
    assert analysis.exact_by == "tracing"
    for s in range(least, 41):
        values = {"b": 2, "s": s, "t": least + 7 * s % 37}
        shapes = [",".join(str(values.get(x, x)) for x in arg[4:-1].split(",")) for arg in args]
        counted = costax.analyze(function)(*(costax.spec(f"f32[{shape}]") for shape in shapes)).total
        formula = analysis.evaluate({name: values[name] for name in analysis.symbols}).total
        assert [getattr(formula, field) for field in FIELDS] == [getattr(counted, field) for field in FIELDS], s


def test_the_weight_gradient_of_a_strided_convolution_is_a_formula_in_half_the_size():
    analysis = costax.analyze(weight_gradient(convolution(2, 2, "SAME")))(
        costax.spec(KERNEL), costax.spec("f32[b,s,s,3]; s >= 3")
    )
    assert str(analysis.formula("macs")) == "216*b*floordiv(s + 1, 2)^2"
    for s in range(3, 41):
        outputs = len(range(0, s, 2))
        assert analysis.evaluate(b=2, s=s).total.macs == 2 * 3 * 8 * (3 * outputs) ** 2


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_valid_taps_of_symbols_are_those_that_enumeration_finds(stride):
    function = weight_gradient(convolution(1, stride, "SAME"))
    total = costax.analyze(function)(costax.spec("f32[4,1,1]"), costax.spec("f32[1,s,1]")).total
    valid = total.macs - total.padding_macs
    for s in range(3, 41):
        outputs = -(-s // stride)
        low = max((outputs - 1) * stride + 4 - s, 0) // 2
        met = sum(0 <= o * stride + t - low < s for o in range(outputs) for t in range(4))
        assert valid(s=s) == met


def test_padding_that_depends_on_a_symbol_is_accepted():
    def padded(x, w):
        return lax.conv_general_dilated(x, w, (1,), [(x.shape[1], 0)], dimension_numbers=LAYOUTS[1])

    total = costax.analyze(padded)(costax.spec("f32[1,s,3]"), costax.spec("f32[3,3,2]; s >= 3")).total
    assert total.macs(s=9) == 3 * 2 * 3 * 9


def test_tracing_convolutions_with_symbols_leaves_jax_as_it_was():
    from jax._src.lax import convolution as module

    before = module.operator
    costax.analyze(weight_gradient(convolution(2, 2, "SAME")))(costax.spec(KERNEL), costax.spec(IMAGE))
    assert module.operator is before
