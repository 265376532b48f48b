"""Reductions, prefixes and sorts: truth is a scalar program that counts, over every lane of a small array."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from functools import reduce, total_ordering

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import costax
from costax.core.conventions import as_xla
from costax.core.cost import ARITHMETIC, COMPARE, INTEGER, TRANSCENDENTAL

SHAPES = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)


@total_ordering
class Counted:
    """A number that counts the operations done on all of its kind."""

    operations = 0

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def __add__(self, other: Counted) -> Counted:
        Counted.operations += 1
        return self

    def __lt__(self, other: Counted) -> bool:
        Counted.operations += 1
        return self.value < other.value

    __gt__ = __lt__


def counted(program) -> int:
    """The operations that a program does on counted numbers."""
    Counted.operations = 0
    program()
    return Counted.operations


def lanes(shape: tuple[int, ...], axes: tuple[int, ...]) -> list[list[Counted]]:
    """One list of numbers for each output element of a reduction over the axes."""
    numbers = np.empty(shape, dtype=object)
    for index in np.ndindex(*shape):
        numbers[index] = Counted(random.random())
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    moved = numbers.transpose(*kept, *axes)
    return [list(moved[index].ravel()) for index in np.ndindex(*(shape[axis] for axis in kept))]


def spec(shape, dtype="f32"):
    return costax.spec(f"{dtype}[{','.join(map(str, shape))}]")


def cost(function, *args):
    return costax.analyze(function)(*args).total


def xla(function, *args) -> tuple[float, float]:
    found = jax.jit(function).lower(*args).cost_analysis()
    return found.get("flops", 0), found.get("transcendentals", 0)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.data())
def test_a_reduction_does_what_adding_up_each_lane_does(shape, data):
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    done = counted(lambda: [reduce(lambda a, b: a + b, lane) for lane in lanes(shape, axes) if lane])
    assert cost(lambda x: lax.reduce_sum(x, axes), spec(shape)).flops == done
    assert xla(lambda x: lax.reduce_sum(x, axes), spec(shape))[0] == done


@settings(max_examples=15, deadline=None)
@given(SHAPES.filter(all), st.data())
def test_finding_the_greatest_compares_as_often_as_going_through_the_lane(shape, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    done = counted(lambda: [max(lane) for lane in lanes(shape, (axis,))])
    assert cost(lambda x: lax.argmax(x, axis, "int32"), spec(shape)).of_kind(COMPARE) == done


@pytest.mark.parametrize(
    ("function", "dtype", "kind"),
    [
        (jnp.sum, "f32", ARITHMETIC),
        (jnp.max, "bf16", ARITHMETIC),
        (jnp.prod, "c64", ARITHMETIC),
        (jnp.min, "i32", INTEGER),
        (jnp.max, "u8", INTEGER),
        (jnp.all, "bool", INTEGER),
        (jnp.any, "bool", INTEGER),
    ],
)
def test_a_reduction_is_work_of_its_dtype(function, dtype, kind):
    found = cost(lambda x: function(x, axis=1), spec((4, 100), dtype))
    assert found.of_kind(kind) == 4 * 99
    assert found.by_dtype()[dtype].of_kind(kind) == 4 * 99


@pytest.mark.parametrize("name", ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_xor"])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 2), (0, 1, 2)])
def test_xla_counts_integer_reductions_as_we_do(name, axes):
    function = lambda x: getattr(lax, name)(x, axes)  # noqa: E731
    x = spec((3, 4, 5), "i32")
    assert as_xla(cost(function, x)) == xla(function, x)


@settings(max_examples=25, deadline=None)
@given(SHAPES, st.data(), st.booleans())
def test_a_prefix_sum_does_what_accumulating_each_lane_does(shape, data, reverse):
    axis = data.draw(st.integers(0, len(shape) - 1))
    done = counted(lambda: [list(itertools.accumulate(lane)) for lane in lanes(shape, (axis,))])
    for prefix in (lax.cumsum, lax.cumprod, lax.cummax, lax.cummin):
        assert cost(lambda x, f=prefix: f(x, axis=axis, reverse=reverse), spec(shape)).flops == done
    found = cost(lambda x: lax.cumlogsumexp(x, axis=axis, reverse=reverse), spec(shape))
    assert (found.flops, found.of_kind(TRANSCENDENTAL)) == (5 * done, 2 * done)


def test_a_prefix_of_integers_has_no_flops():
    found = cost(lambda x: lax.cumsum(x, axis=0), spec((4, 1000), "i32"))
    assert (found.flops, found.of_kind(INTEGER)) == (0, 3 * 1000)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 100, 1000, 1024, 1025])
def test_sorting_one_row_costs_what_xla_says(n):
    assert as_xla(cost(lax.sort, spec((n,)))) == xla(lax.sort, spec((n,)))


def shuffled(n: int) -> list[Counted]:
    """The same row in every run."""
    return [Counted(value) for value in random.Random(n).sample(range(n), n)]


def merge_sorted(row: list[Counted]) -> list[Counted]:
    if len(row) < 2:
        return row
    half = len(row) // 2
    return list(heapq.merge(merge_sorted(row[:half]), merge_sorted(row[half:])))


@pytest.mark.parametrize("n", [2, 3, 7, 8, 31, 100, 500])
def test_a_sort_is_between_what_a_merge_sort_does_and_what_stirling_allows(n):
    row = shuffled(n)
    done = counted(lambda: merge_sorted(row))
    # No sort needs fewer than log2(n!) comparisons, which is more than n * log2 n - n / ln 2.
    least = math.log2(math.factorial(n))
    ours = cost(lax.sort, spec((n,))).of_kind(COMPARE)
    assert max(done, least) <= ours <= least + n / math.log(2) + n


def test_rows_are_sorted_by_themselves():
    one = cost(lax.sort, spec((100,))).ops
    assert cost(lax.sort, spec((7, 100))).ops == cost(jax.vmap(lax.sort), spec((7, 100))).ops == 7 * one
    assert cost(lambda x: lax.sort(x, dimension=0), spec((100, 7))).ops == 7 * one
    assert cost(lax.sort, spec((0, 100))).ops == cost(lax.sort, spec((5, 0))).ops == 0


@pytest.mark.parametrize(("n", "k"), [(100, 1), (100, 5), (1000, 10), (1000, 64)])
def test_the_k_best_cost_no_less_than_going_through_a_heap_of_k(n, k):
    row = shuffled(n)
    heap = row[:k]
    heapq.heapify(heap)
    done = counted(lambda: [heapq.heappushpop(heap, number) for number in row[k:]])
    ours = cost(lambda x: lax.top_k(x, k), spec((n,))).of_kind(COMPARE)
    assert done <= ours <= n * (math.log2(k) + 1)
