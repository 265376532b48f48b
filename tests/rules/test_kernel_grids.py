"""Branches and loops of Pallas kernels count as often as the points of the grid run them: loops in Python decide."""

from __future__ import annotations

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

import costax

BLOCK = 8 * 128
SHAPE = jax.ShapeDtypeStruct((8, 128), jnp.float32)


def program(kernel, grid, tables=(), in_specs=(), blocks=()):
    """Return a program that runs a kernel on a block of work, with tables in scalar memory and blocks of constants."""

    def run(x):
        spec = pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(tables),
            grid=grid,
            in_specs=[*in_specs, pl.BlockSpec((8, 128), lambda *_: (0, 0))],
            out_specs=pl.BlockSpec((8, 128), lambda *_: (0, 0)),
        )
        return pl.pallas_call(kernel, grid_spec=spec, out_shape=SHAPE)(*map(jnp.asarray, (*tables, *blocks)), x)

    return run


def exponentials(run, **options):
    """Return how many blocks of exponentials a program computes."""
    analysis = costax.analyze(run, **options)(SHAPE)
    assert analysis.exact
    assert analysis.total.transcendentals % BLOCK == 0
    return analysis.total.transcendentals // BLOCK


def work(out):
    out[...] = jnp.exp(out[...])


def counted(condition, grid, in_kernel=None):
    """Return (blocks that costax counts, points of the grid at which the condition holds)."""

    def kernel(x, out):
        @pl.when((in_kernel or condition)(*map(pl.program_id, range(len(grid)))))
        def _():
            work(out)

    return exponentials(program(kernel, grid)), sum(condition(*point) for point in product(*map(range, grid)))


@pytest.mark.parametrize(
    ("condition", "grid"),
    [
        (lambda i, j, k: k == 4 - 1, (4, 4, 4)),
        (lambda i: i == 0, (5,)),
        (lambda i, j: j <= i, (7, 9)),
        (lambda i, j: (i + 1) * 64 > j * 96, (12, 8)),
        (lambda i, j: (i * 3 + j) % 4 == 1, (6, 11)),
        (lambda i, j: (j - i) // 2 == -1, (6, 6)),
        (lambda i, j: i > 100, (6, 6)),
        (lambda i, j: i >= 0, (6, 6)),
    ],
)
def test_a_branch_counts_at_the_points_of_the_grid_where_its_condition_holds(condition, grid):
    ours, points = counted(condition, grid)
    assert ours == points


@pytest.mark.parametrize("grid", [(3, 5), (1, 8), (6, 2)])
def test_conditions_may_be_combined_and_use_the_size_of_the_grid(grid):
    last = grid[1] - 1
    ours, points = counted(
        lambda i, j: (i == j or j == last) and i != 1,
        grid,
        lambda i, j: ((i == j) | (j == pl.num_programs(1) - 1)) & ~(i == 1),
    )
    assert ours == points


def test_nested_branches_count_where_all_conditions_hold():
    def kernel(x, out):
        i, j = pl.program_id(0), pl.program_id(1)

        @pl.when(j <= i)
        def _():
            work(out)

            @pl.when(lax.rem(i, 3) == 2)
            def _():
                work(out)

                @pl.when(jnp.minimum(i, j) == 2)
                def _():
                    work(out)

    points = [(i, j) for i, j in product(range(8), range(6)) if j <= i]
    third = [(i, j) for i, j in points if i % 3 == 2]
    assert exponentials(program(kernel, (8, 6))) == len(points) + len(third) + sum(min(p) == 2 for p in third)


@pytest.mark.parametrize("branches", [2, 3, 5])
def test_each_branch_of_a_switch_counts_where_it_is_selected(branches):
    def kernel(x, out):
        def times(n):
            def branch(y):
                for _ in range(n):
                    y = jnp.exp(y)
                return y

            return branch

        index = pl.program_id(0) - 2  # below 0 and above the last branch it is clamped
        out[...] = lax.switch(index, [times(n) for n in range(1, branches + 1)], x[...])

    taken = [min(max(i - 2, 0), branches - 1) + 1 for i in range(9)]
    assert exponentials(program(kernel, (9,))) == sum(taken)


@pytest.mark.parametrize(
    ("queries", "keys", "window"), [(128, 128, None), (128, 64, None), (64, 128, None), (64, 64, 100)]
)
def test_causal_attention_visits_the_blocks_that_the_mask_does_not_hide(queries, keys, window):
    length = 1024

    def kernel(x, out):
        i = pl.program_id(1)
        last = (i * queries + queries + keys - 1) // keys
        first = 0 if window is None else jnp.maximum(i * queries - window, 0) // keys
        out[...] = lax.fori_loop(first, last, lambda j, y: jnp.exp(y), x[...])

    def visited(i, j):
        pairs = product(range(i * queries, (i + 1) * queries), range(j * keys, (j + 1) * keys))
        return any(k <= q and (window is None or k >= q - window) for q, k in pairs)

    blocks = sum(visited(i, j) for i, j in product(range(length // queries), range(length // keys)))
    assert exponentials(program(kernel, (2, length // queries))) == 2 * blocks


def test_a_loop_may_start_stop_and_step_as_the_grid_says():
    def kernel(x, out):
        i = pl.program_id(0)

        def down(state):
            j, y = state
            return j - 2, jnp.exp(y)

        _, out[...] = lax.while_loop(lambda state: state[0] > i, down, (11, x[...]))

    assert exponentials(program(kernel, (15,))) == sum(len(range(11, i, -2)) for i in range(15))


def test_a_loop_without_a_counter_is_stepped_through():
    def kernel(x, out):
        i = pl.program_id(0)

        def double(state):
            j, y = state
            return j * 2 + 1, jnp.exp(y)

        _, out[...] = lax.while_loop(lambda state: state[0] < i * i, double, (i, x[...]))

    def steps(i):
        j, count = i, 0
        while j < i * i:
            j, count = j * 2 + 1, count + 1
        return count

    assert exponentials(program(kernel, (20,))) == sum(map(steps, range(20)))


def test_a_branch_in_a_loop_sees_the_iteration_and_the_grid():
    def kernel(x, out):
        i = pl.program_id(0)

        def body(j, _):
            @pl.when(j == i)
            def _():
                work(out)

            lax.fori_loop(0, 4, lambda k, c: inner(j, k, c), 0)
            return 0

        def inner(j, k, c):
            @pl.when(j * k > i)
            def _():
                work(out)

            return c

        lax.fori_loop(0, i + 1, body, 0)

    points = [(i, j) for i in range(6) for j in range(i + 1)]
    inner_points = [(i, j, k) for i, j in points for k in range(4) if j * k > i]
    assert exponentials(program(kernel, (6,))) == sum(i == j for i, j in points) + len(inner_points)


def test_results_of_branches_and_loops_decide_later_ones():
    def kernel(x, out):
        i = pl.program_id(0)
        bound = lax.cond(i < 3, lambda: 2 * i, lambda: 10 - i)
        total = lax.fori_loop(0, bound, lambda j, s: s + j, jnp.int32(0))

        @pl.when(total > 5)
        def _():
            work(out)

    bounds = [2 * i if i < 3 else 10 - i for i in range(9)]
    assert exponentials(program(kernel, (9,))) == sum(sum(range(bound)) > 5 for bound in bounds)


TABLE = np.random.default_rng(0).integers(0, 5, (4, 6), np.int32)


def test_tables_in_scalar_memory_decide_branches_and_loops():
    def kernel(table, lengths, x, out):
        i, j = pl.program_id(0), pl.program_id(1)

        @pl.when(table[i, j] > 2)
        def _():
            work(out)

        out[...] = lax.fori_loop(0, pl.cdiv(lengths[i], 128), lambda k, y: jnp.exp(y), x[...])

    lengths = np.array([5, 128, 700, 0], np.int32)
    blocks = sum(-(-length // 128) for length in lengths)
    assert exponentials(program(kernel, (4, 6), (TABLE, lengths))) == (TABLE > 2).sum() + 6 * blocks


def test_blocks_of_a_constant_follow_their_index_map():
    def kernel(order, mask, x, out):
        @pl.when(mask[0, 0] == 1)
        def _():
            work(out)

    order = np.array([3, 0, 0, 2], np.int32)
    specs = [pl.BlockSpec((None, 1, 2), lambda i, j, order: (order[i], j, i // 2), memory_space=pltpu.SMEM)]
    masks = np.random.default_rng(1).integers(0, 2, (4, 6, 4), np.int32)
    points = sum(masks[order[i], j, 2 * (i // 2)] == 1 for i, j in product(range(4), range(6)))
    assert exponentials(program(kernel, (4, 6), (order,), specs, (masks,))) == points


def test_a_mask_of_a_block_decides_whether_the_block_runs():
    def kernel(x, out):
        rows = pl.program_id(0) * 16 + lax.broadcasted_iota(jnp.int32, (16, 32), 0)
        columns = pl.program_id(1) * 32 + lax.broadcasted_iota(jnp.int32, (16, 32), 1)

        @pl.when(jnp.any((rows >= columns) & (rows < columns + 40)))
        def _():
            work(out)

    mask = np.array([[c <= r < c + 40 for c in range(160)] for r in range(128)])
    blocks = mask.reshape(8, 16, 5, 32).any((1, 3)).sum()
    assert exponentials(program(kernel, (8, 5))) == blocks


def test_a_table_that_the_program_computes_is_known():
    def kernel(table, x, out):
        @pl.when(table[pl.program_id(0)] % 3 == 0)
        def _():
            work(out)

    def run(x):
        table = jnp.cumsum(jnp.concatenate([jnp.arange(5), jnp.full(3, 7)]))
        spec = pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(8,),
            in_specs=[pl.BlockSpec((8, 128), lambda *_: (0, 0))],
            out_specs=pl.BlockSpec((8, 128), lambda *_: (0, 0)),
        )
        return jax.jit(lambda t, x: pl.pallas_call(kernel, grid_spec=spec, out_shape=SHAPE)(t, x))(table, x)

    sums = np.cumsum([*range(5), 7, 7, 7])
    assert exponentials(run) == sum(sums % 3 == 0)


def test_a_batch_of_kernels_repeats_every_branch():
    def kernel(x, out):
        @pl.when(pl.program_id(0) == 1)
        def _():
            work(out)

    batch = jax.ShapeDtypeStruct((5, 8, 128), jnp.float32)
    analysis = costax.analyze(jax.vmap(program(kernel, (4,))))(batch)
    assert analysis.total.transcendentals == 5 * BLOCK


def test_a_large_grid_needs_no_enumeration_of_the_axes_that_do_not_matter():
    def kernel(x, out):
        @pl.when(pl.program_id(2) >= pl.program_id(3))
        def _():
            work(out)

    n = 1000
    assert exponentials(program(kernel, (512, 300, n, n))) == 512 * 300 * n * (n + 1) // 2


def test_kernels_with_other_tables_are_counted_apart():
    def kernel(table, x, out):
        @pl.when(table[pl.program_id(0)] == 1)
        def _():
            work(out)

    tables = [np.array(t, np.int32) for t in ([1, 0, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0])]

    def run(x):
        for table in tables:
            x = program(kernel, (4,), (table,))(x)
        return x

    assert exponentials(run) == sum(int(table.sum()) for table in tables)


def test_what_the_data_decide_is_an_upper_bound():
    def kernel(x, out):
        @pl.when(x[0, 0] > 0)
        def _():
            @pl.when(pl.program_id(0) < 2)
            def _():
                work(out)

    analysis = costax.analyze(program(kernel, (4,)))(SHAPE)
    assert analysis.total.transcendentals == 2 * BLOCK
    assert not analysis.exact


def test_a_bound_on_one_of_two_branches_holds_for_every_choice():
    def kernel(x, out):
        out[...] = lax.cond(
            x[0, 0] > 0,
            lambda y: lax.cond(pl.program_id(0) < 2, jnp.exp, lambda y: y, y),
            lambda y: lax.cond(pl.program_id(0) >= 1, jnp.exp, lambda y: y, y),
            x[...],
        )

    # If runs 0 and 1 take the first branch, and runs 2 and 3 the second one, all of them compute.
    analysis = costax.analyze(program(kernel, (4,)))(SHAPE)
    assert analysis.total.transcendentals == 4 * BLOCK
    assert not analysis.exact


def test_a_table_into_which_the_kernel_writes_is_not_known():
    def kernel(table, x, out):
        @pl.when(table[0] == 1)
        def _():
            work(out)

        table[0] = 0

    analysis = costax.analyze(program(kernel, (4,), (np.array([1], np.int32),)))(SHAPE)
    assert analysis.total.transcendentals == 4 * BLOCK
    assert not analysis.exact


def test_a_loop_that_the_data_bound_is_a_symbol():
    def kernel(x, out):
        bound = jnp.sum(x[...]).astype(jnp.int32) + pl.program_id(0)
        out[...] = lax.fori_loop(0, bound, lambda j, y: jnp.exp(y), x[...])

    analysis = costax.analyze(program(kernel, (4,)))(SHAPE)
    assert not analysis.exact
    assert analysis.total.transcendentals.symbols == (analysis.unknowns[0].place,)
    assert analysis.evaluate({analysis.unknowns[0].place: 3}).total.transcendentals == 4 * 3 * BLOCK


def test_formulas_in_the_size_of_the_grid_are_those_of_concrete_sizes():
    def run(x):
        n = x.shape[0] // 8

        def kernel(x, out):
            @pl.when(pl.program_id(0) == pl.num_programs(0) - 1)
            def _():
                work(out)

            @pl.when(pl.program_id(0) >= pl.program_id(1))
            def _():
                work(out)

        block = pl.BlockSpec((8, 128), lambda i, j: (i, 0))
        return pl.pallas_call(
            kernel, grid=(n, n), in_specs=[block], out_specs=block, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype)
        )(x)

    analysis = costax.analyze(run)(costax.spec("f32[8*n,128]"))
    for n in (2, 3, 5, 12):
        points = sum((i == n - 1) + (i >= j) for i, j in product(range(n), range(n)))
        assert analysis.evaluate(n=n).total.transcendentals == points * BLOCK
