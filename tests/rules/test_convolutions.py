"""Convolutions: MACs and padding MACs against enumeration, XLA, gradients and published figures."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import jax
import jax.numpy as jnp
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax

import costax
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
@settings(max_examples=1500, deadline=None)
@given(convolutions())
def test_valid_taps_are_those_that_enumeration_finds(convolution):
    total = cost(convolution, convolution.lhs, convolution.rhs)
    assert valid(total) == convolution.enumerated()
    assert 0 <= total.padding_macs <= total.macs


@pytest.mark.slow
@pytest.mark.once
@settings(max_examples=1000, deadline=None)
@given(convolutions(taps=st.integers(1, 3)))
def test_a_convolution_and_both_of_its_gradients_have_the_same_valid_taps(convolution):
    lhs, rhs, out = convolution.lhs, convolution.rhs, convolution.out
    forward = cost(convolution, lhs, rhs)
    by_input = cost(input_gradient(convolution), lhs, rhs, out)
    by_weights = cost(weight_gradient(convolution), lhs, rhs, out)
    assert valid(forward) == valid(by_input) == valid(by_weights)
    assert forward.macs == by_input.macs


@settings(max_examples=80, deadline=None)
@given(convolutions(taps=st.integers(1, 3)))
def test_xla_counts_two_flops_a_valid_tap(convolution):
    lowered = jax.jit(convolution).lower(convolution.lhs, convolution.rhs)
    total = cost(convolution, convolution.lhs, convolution.rhs)
    assert lowered.cost_analysis().get("flops", 0) == 2 * valid(total)


@pytest.mark.slow
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
