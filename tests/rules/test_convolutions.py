"""Convolutions: MACs and padding MACs against enumeration, XLA, gradients and published figures."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import jax
import jax.numpy as jnp
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax

import costax
from costax.core.polynomial import Polynomial, symbol
from costax.rules.leaf.convolutions import Dimension, valid_taps

spec = costax.spec


@dataclass(frozen=True)
class Axis:
    """One spatial axis as the caller of jax states it."""

    inputs: int
    taps: int
    stride: int
    low: int
    high: int
    lhs_dilation: int
    rhs_dilation: int


@dataclass(frozen=True)
class Convolution:
    axes: tuple[Axis, ...]
    batch: int
    in_channels: int
    out_channels: int
    feature_groups: int
    batch_groups: int
    layouts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @property
    def lhs(self):
        return self._spec((self.batch, self.in_channels, *(a.inputs for a in self.axes)), self.layouts[0])

    @property
    def rhs(self):
        channels = (self.out_channels, self.in_channels // self.feature_groups)
        return self._spec((*channels, *(a.taps for a in self.axes)), self.layouts[1])

    @property
    def out(self):
        return jax.eval_shape(self, self.lhs, self.rhs)

    @staticmethod
    def _spec(extents, layout):
        shape = [0] * len(extents)
        for extent, axis in zip(extents, layout, strict=True):
            shape[axis] = extent
        return jax.ShapeDtypeStruct(tuple(shape), jnp.float32)

    def __call__(self, lhs, rhs):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides=[a.stride for a in self.axes],
            padding=[(a.low, a.high) for a in self.axes],
            lhs_dilation=[a.lhs_dilation for a in self.axes],
            rhs_dilation=[a.rhs_dilation for a in self.axes],
            dimension_numbers=lax.ConvDimensionNumbers(*self.layouts),
            feature_group_count=self.feature_groups,
            batch_group_count=self.batch_groups,
        )

    def enumerated(self) -> int:
        """Go through every output position and tap, and every pair of channels, and count those that meet."""
        outputs = [self.out.shape[axis] for axis in self.layouts[2][2:]]
        met = 0
        for output in product(*map(range, outputs)):
            for tap in product(*(range(a.taps) for a in self.axes)):
                met += all(_meets(a, o, t) for a, o, t in zip(self.axes, output, tap, strict=True))
        return met * self._connected()

    def _connected(self) -> int:
        def group(index, extent, groups):
            return index // (extent // groups)

        return sum(
            group(i, self.in_channels, self.feature_groups) == group(o, self.out_channels, self.feature_groups)
            and group(b, self.batch, self.batch_groups) == group(o, self.out_channels, self.batch_groups)
            for b in range(self.batch)
            for i in range(self.in_channels)
            for o in range(self.out_channels)
        )


def _meets(axis: Axis, output: int, tap: int) -> bool:
    place = output * axis.stride + tap * axis.rhs_dilation - axis.low
    return any(place == i * axis.lhs_dilation for i in range(axis.inputs))


# An empty axis makes everything zero: rarely, or nothing else is tried.
TAPS = st.sampled_from([1, 2, 3] * 3 + [0])
INPUTS = st.sampled_from([1, 2, 3, 4, 5] * 2 + [0])
MULTIPLES = st.sampled_from([1, 2, 3] * 4 + [0])


@st.composite
def axes(draw, taps=TAPS, inputs=INPUTS):
    small, padding = st.integers(1, 3), st.integers(-2, 6)
    axis = Axis(draw(inputs), draw(taps), draw(small), draw(padding), draw(padding), draw(small), draw(small))
    dilated = max(0, (axis.inputs - 1) * axis.lhs_dilation + 1)
    assume(dilated + axis.low + axis.high >= 0)
    return axis


@st.composite
def convolutions(draw, **options):
    rank = draw(st.integers(0, 3))
    groups, batch_groups = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (3, 1), (1, 2), (1, 3)]))
    layout = st.permutations(range(rank + 2)).map(tuple)
    return Convolution(
        axes=tuple(draw(axes(**options)) for _ in range(rank)),
        batch=batch_groups * draw(MULTIPLES),
        in_channels=groups * draw(MULTIPLES),
        out_channels=groups * batch_groups * draw(MULTIPLES),
        feature_groups=groups,
        batch_groups=batch_groups,
        layouts=(draw(layout), draw(layout), draw(layout)),
    )


def cost(function, *args):
    return costax.analyze(function)(*args).total


def valid(total) -> int:
    return total.macs - total.padding_macs


def input_gradient(convolution):
    return lambda lhs, rhs, g: jax.vjp(lambda x: convolution(x, rhs), lhs)[1](g)


def weight_gradient(convolution):
    return lambda lhs, rhs, g: jax.vjp(lambda w: convolution(lhs, w), rhs)[1](g)


@pytest.mark.slow
@pytest.mark.once
@settings(max_examples=250, deadline=None)
@given(convolutions())
def test_valid_taps_are_those_that_enumeration_finds(convolution):
    total = cost(convolution, convolution.lhs, convolution.rhs)
    assert valid(total) == convolution.enumerated()
    assert 0 <= total.padding_macs <= total.macs


@pytest.mark.slow
@pytest.mark.once
@settings(max_examples=150, deadline=None)
@given(convolutions(taps=st.integers(1, 3)))
def test_a_convolution_and_both_of_its_gradients_have_the_same_valid_taps(convolution):
    lhs, rhs, out = convolution.lhs, convolution.rhs, convolution.out
    forward = cost(convolution, lhs, rhs)
    by_input = cost(input_gradient(convolution), lhs, rhs, out)
    by_weights = cost(weight_gradient(convolution), lhs, rhs, out)
    assert valid(forward) == valid(by_input) == valid(by_weights)
    outputs = [out.shape[axis] for axis in convolution.layouts[2][2:]]
    # A kernel that is larger than input and output counts more in a forward convolution than in any of its gradients.
    if all(a.taps <= max(a.inputs, o) for a, o in zip(convolution.axes, outputs, strict=True)):
        assert forward.macs == by_input.macs
        if convolution.layouts[0][0] == convolution.layouts[2][0] == 0:
            assert forward.macs == by_weights.macs


@settings(max_examples=80, deadline=None)
@given(convolutions(taps=st.integers(1, 3)))
def test_xla_counts_two_flops_a_valid_tap(convolution):
    lowered = jax.jit(convolution).lower(convolution.lhs, convolution.rhs)
    total = cost(convolution, convolution.lhs, convolution.rhs)
    assert lowered.cost_analysis().get("flops", 0) == 2 * valid(total)


@pytest.mark.slow
@pytest.mark.once
@settings(max_examples=25, deadline=None)
@given(convolutions(taps=st.integers(1, 3), inputs=st.integers(1, 4)))
def test_a_convolution_of_ones_adds_up_to_its_valid_taps(convolution):
    lhs, rhs = (jnp.ones(x.shape, x.dtype) for x in (convolution.lhs, convolution.rhs))
    assert int(jnp.sum(convolution(lhs, rhs))) == valid(cost(convolution, lhs, rhs))


@given(
    st.builds(
        Dimension,
        inputs=st.integers(0, 12),
        taps=st.integers(0, 12),
        outputs=st.integers(0, 12),
        stride=st.integers(1, 6),
        padding=st.integers(-20, 40),
        input_dilation=st.integers(1, 6),
        tap_dilation=st.integers(1, 6),
    )
)
@settings(max_examples=500, deadline=None)
def test_closed_form_of_valid_taps_holds_where_extents_do_not_even_fit_together(d):
    def meets(o, t):
        return any(o * d.stride + t * d.tap_dilation - d.padding == i * d.input_dilation for i in range(d.inputs))

    found = sum(meets(o, t) for o in range(d.outputs) for t in range(d.taps))
    assert valid_taps(d) == found
    assert found <= d.taps * min(d.inputs, d.outputs)


@given(
    st.builds(
        Dimension,
        inputs=st.integers(1, 12),
        taps=st.integers(1, 12),
        outputs=st.integers(1, 12),
        stride=st.integers(1, 6),
        padding=st.integers(-20, 40),
        input_dilation=st.integers(1, 6),
        tap_dilation=st.integers(1, 6),
    ),
    st.sampled_from(list(combinations(("inputs", "taps", "outputs", "padding"), 2))),
)
@settings(max_examples=300, deadline=None)
def test_valid_taps_of_symbols_are_those_of_their_values(d, symbolic):
    values = {name: getattr(d, name) for name in symbolic}
    # a symbol is at least 1, a padding may be negative
    symbols = {name: symbol(name) - 21 * (name == "padding") for name in symbolic}
    if "padding" in values:
        values["padding"] += 21
    formula = valid_taps(d._replace(**symbols))
    if isinstance(formula, Polynomial):
        formula = formula(**{name: values[name] for name in formula.symbols})
    assert formula == valid_taps(d)


def test_valid_taps_of_enormous_extents_take_no_loop_over_them():
    n = 10**15
    assert valid_taps(Dimension(inputs=2 * n - 1, taps=n, outputs=n)) == n * n
    # "same" padding: of n taps on n positions, output o meets those within the edges: a triangle is missing twice.
    half = n // 2
    assert valid_taps(Dimension(n, 2 * half + 1, n, padding=half)) == (2 * half + 1) * n - half * (half + 1)


def test_padding_larger_than_a_dilated_input_is_padding_and_nothing_else():
    one = Convolution((Axis(2, 3, 1, 9, 9, 4, 1),), 1, 1, 1, 1, 1, ((0, 1, 2),) * 3)
    total = cost(one, one.lhs, one.rhs)
    # Both elements meet all three taps.
    assert (total.macs, total.padding_macs) == (3 * 2, 0)
    shifted = Convolution((Axis(2, 3, 1, 40, -30, 4, 1),), 1, 1, 1, 1, 1, ((0, 1, 2),) * 3)
    total = cost(shifted, shifted.lhs, shifted.rhs)
    assert (total.macs, total.padding_macs) == (3 * 2, 3 * 2)


# Programs whose true figures are published, with what other tools make of them.


def nhwc(strides=(1, 1), padding="SAME", **options):
    return lambda x, w: lax.conv_general_dilated(
        x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


def test_first_convolution_of_vgg():
    total = cost(nhwc(), spec("f32[1,224,224,3]"), spec("f32[3,3,3,64]"))
    assert total.macs == 86_704_128
    assert total.flops == 173_408_256
    assert 2 * valid(total) == 172_377_600


def test_same_padding_counts_the_padding():
    assert cost(nhwc(), spec("f32[1,16,16,3]"), spec("f32[3,3,3,8]")).macs == 55_296


@pytest.mark.parametrize(
    ("x", "w", "options", "macs"),
    [("f32[1,8,8,8]", "f32[2,2,8,4]", {}, 8_192), ("f32[1,8,8,8]", "f32[2,2,1,8]", {"feature_group_count": 8}, 2_048)],
    ids=["dense", "depthwise"],
)
def test_transposed_convolution_meets_each_input_once_a_tap(x, w, options, macs):
    transposed = nhwc(padding=[(1, 1), (1, 1)], lhs_dilation=(2, 2), **options)
    total = cost(transposed, spec(x), spec(w))
    assert (total.macs, total.padding_macs) == (macs, 0)


# Gradients. The convolutions that jax makes of them have holes in the input, and windows as large as the input. Each
# multiplies the same triples (input position, tap, output position) as the forward convolution.

LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def channels_last(rank, stride, padding, **options):
    return lambda x, w: lax.conv_general_dilated(
        x, w, (stride,) * rank, padding, dimension_numbers=LAYOUTS[rank], **options
    )


def counted(function, *args):
    """MACs and valid taps."""
    total = cost(function, *args)
    return total.macs, valid(total)


def gradients(function, lhs, rhs):
    """MACs and valid taps of a convolution, of its input gradient and of its weight gradient."""
    out = jax.eval_shape(function, lhs, rhs)
    return [
        counted(function, lhs, rhs),
        counted(input_gradient(function), lhs, rhs, out),
        counted(weight_gradient(function), lhs, rhs, out),
    ]


def triples(inputs, taps, outputs, stride=1, low=0, lhs_dilation=1, rhs_dilation=1):
    """Go through all triples (input position, tap, output position) of one axis and count those that meet."""
    axis = Axis(inputs, taps, stride, low, 0, lhs_dilation, rhs_dilation)
    return sum(_meets(axis, o, t) for o in range(outputs) for t in range(taps))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 8])
def test_a_transposed_convolution_and_both_of_its_gradients_have_the_same_macs(stride, kernel, padding):
    def transposed(x, w):
        return lax.conv_transpose(x, w, (stride,), padding, dimension_numbers=LAYOUTS[1])

    each = gradients(transposed, spec("f32[2,7,3]"), spec(f"f32[{kernel},3,5]"))
    # each input position meets each tap once
    assert {macs for macs, _ in each} == {2 * 3 * 5 * (7 * kernel)}
    outputs = jax.eval_shape(transposed, spec("f32[2,7,3]"), spec(f"f32[{kernel},3,5]")).shape[1]
    # conv_transpose pads the dilated input; "SAME" makes 7 * stride outputs
    lack = outputs - ((7 - 1) * stride + 1) + kernel - 1
    low = kernel - 1 if padding == "VALID" or stride > kernel - 1 else -(-lack // 2)
    assert {valid for _, valid in each} == {2 * 3 * 5 * triples(7, kernel, outputs, 1, low, stride)}


@pytest.mark.parametrize(
    ("kernel", "stride", "outputs", "low"), [((4, 4), 4, 64, 3), ((4, 4), 2, 32, 2), ((3, 3), 8, 128, 2)]
)
def test_gradient_of_a_transposed_convolution_is_three_times_its_forward(kernel, stride, outputs, low):
    def transposed(x, w):
        return lax.conv_transpose(x, w, (stride, stride), "SAME", dimension_numbers=LAYOUTS[2])

    def step(x, w):
        return jax.value_and_grad(lambda x, w: jnp.sum(transposed(x, w) ** 2), (0, 1))(x, w)

    x, w = spec("f32[1,16,16,4]"), spec(f"f32[{kernel[0]},{kernel[1]},4,8]")
    forward = 4 * 8 * (16 * kernel[0]) ** 2
    met = 4 * 8 * triples(16, kernel[0], outputs, 1, low, stride) ** 2
    assert counted(transposed, x, w) == (forward, met)
    assert counted(step, x, w) == (3 * forward, 3 * met)


def penalty(function):
    """A gradient penalty: its gradient has second derivatives of the convolution, with respect to each operand."""

    def slope(w, x):
        return jax.grad(lambda x: jnp.sum(function(x, w) ** 2))(x)

    return jax.grad(lambda w, x: jnp.sum(slope(w, x) ** 2), (0, 1))


def products(jaxpr):
    return sum(
        (eqn.primitive.name == "conv_general_dilated")
        + sum(products(p.jaxpr) for p in eqn.params.values() if hasattr(p, "jaxpr"))
        for eqn in jaxpr.eqns
    )


@pytest.mark.parametrize(
    ("function", "x", "w"),
    [
        pytest.param(channels_last(1, 2, "SAME"), "f32[2,12,3]", "f32[4,3,2]", id="stride 2"),
        pytest.param(channels_last(1, 3, "VALID"), "f32[2,13,3]", "f32[5,3,2]", id="stride 3"),
        pytest.param(channels_last(1, 8, [(1, 2)]), "f32[1,21,3]", "f32[3,3,2]", id="stride 8"),
        pytest.param(channels_last(1, 1, [(2, 2)]), "f32[1,9,3]", "f32[3,3,2]", id="whole windows"),
        pytest.param(channels_last(1, 1, [(4, 4)], rhs_dilation=(2,)), "f32[1,9,3]", "f32[3,3,2]", id="dilated taps"),
        pytest.param(channels_last(1, 2, [(4, 3)], lhs_dilation=(3,)), "f32[1,6,3]", "f32[4,3,2]", id="dilated input"),
        pytest.param(channels_last(1, 2, "SAME", feature_group_count=3), "f32[2,9,3]", "f32[3,1,6]", id="groups"),
        pytest.param(channels_last(1, 2, "SAME", batch_group_count=2), "f32[4,9,3]", "f32[3,3,6]", id="batch groups"),
        pytest.param(channels_last(2, 2, "SAME"), "f32[2,8,9,3]", "f32[3,4,3,2]", id="2D"),
        pytest.param(channels_last(3, 2, "SAME"), "f32[1,4,5,6,1]", "f32[3,2,1,1,2]", id="3D"),
    ],
)
def test_every_convolution_of_a_gradient_penalty_has_the_macs_of_the_forward_convolution(function, x, w):
    x, w = spec(x), spec(w)
    macs, met = counted(function, x, w)
    convolutions = products(jax.make_jaxpr(penalty(function))(w, x).jaxpr)
    assert convolutions >= 5
    assert counted(penalty(function), w, x) == (convolutions * macs, convolutions * met)


@pytest.mark.parametrize(
    ("stride", "padding", "options", "x", "w"),
    [
        (4, "SAME", {}, "f32[2,9,3]", "f32[4,3,2]"),
        (1, [(3, 3)], {}, "f32[2,6,3]", "f32[4,3,2]"),
        (1, [(2, 3)], {"lhs_dilation": (5,)}, "f32[2,6,3]", "f32[3,3,2]"),
        (2, [(1, 4)], {"lhs_dilation": (3,), "rhs_dilation": (2,)}, "f32[2,6,3]", "f32[3,3,2]"),
        (3, "SAME", {"feature_group_count": 3}, "f32[2,9,3]", "f32[4,1,6]"),
    ],
)
def test_xla_counts_the_valid_taps_of_a_convolution_and_both_of_its_gradients(stride, padding, options, x, w):
    function, x, w = channels_last(1, stride, padding, **options), spec(x), spec(w)
    out = jax.eval_shape(function, x, w)
    for f, args in (
        (function, (x, w)),
        (input_gradient(function), (x, w, out)),
        (weight_gradient(function), (x, w, out)),
    ):
        compiled = jax.jit(f).lower(*args).compile()
        assert compiled.cost_analysis()["flops"] == 2 * counted(f, *args)[1]


@pytest.mark.parametrize(
    ("inputs", "kernel", "stride", "outputs"), [(1, 3, 1, 1), (2, 3, 1, 2), (3, 7, 1, 3), (4, 5, 1, 4), (2, 4, 2, 1)]
)
def test_a_kernel_larger_than_the_input_keeps_the_textbook_number(inputs, kernel, stride, outputs):
    function = channels_last(2, stride, "SAME")
    x, w = spec(f"f32[1,{inputs},{inputs},4]"), spec(f"f32[{kernel},{kernel},4,8]")
    macs, met = counted(function, x, w)
    assert macs == 4 * 8 * (kernel * outputs) ** 2
    assert met < macs


@pytest.mark.parametrize(
    ("inputs", "dilation", "taps", "low", "outputs"), [(16, 4, 64, 3, 4), (16, 2, 32, 2, 4), (5, 3, 14, 1, 2)]
)
def test_an_input_with_holes_meets_each_output_at_most_once(inputs, dilation, taps, low, outputs):
    high = outputs - 1 + taps - ((inputs - 1) * dilation + 1) - low
    function = channels_last(1, 1, [(low, high)], lhs_dilation=(dilation,))
    macs, met = counted(function, spec(f"f32[1,{inputs},3]"), spec(f"f32[{taps},3,2]"))
    assert macs == 3 * 2 * (inputs * outputs)
    assert met == 3 * 2 * triples(inputs, taps, outputs, 1, low, dilation)


def test_depthwise_forward_and_weight_gradient():
    depthwise = nhwc(feature_group_count=16)
    x, w, g = spec("f32[1,8,8,16]"), spec("f32[3,3,1,16]"), spec("f32[1,8,8,16]")
    forward, gradient = cost(depthwise, x, w), cost(weight_gradient(depthwise), x, w, g)
    assert forward.macs + gradient.macs == 18_432


def test_mixed_dtypes_are_filed_under_operands_and_accumulator():
    total = cost(nhwc(preferred_element_type=jnp.int32), spec("i8[1,8,8,3]"), spec("i8[3,3,3,4]"))
    macs = 3 * 4 * (3 * 8) ** 2
    assert total.by_dtype()["i8*i8->i32"].macs == macs
    assert (total.flops, total.ops) == (0, 2 * macs)
