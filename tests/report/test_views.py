"""Views of a table: equal layers merged, the costliest rows, one direction. The total stays the same."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

import costax
from analyses import analysis_of
from costax.analysis import views
from costax.analysis.analysis import Analysis
from costax.core.cost import Cost
from costax.program.tree import DIRECTIONS, Row
from costax.report.tables import table
from costax.report.text import plain, render

# The result is the same for every version of jax.
pytestmark = pytest.mark.once


def labels(analysis: Analysis, **choice) -> list[str]:
    return [line.label for line in table(analysis, **choice).lines]


def flops(analysis: Analysis, **choice) -> list[str]:
    return [line.cells[1] for line in table(analysis, **choice).lines]


def test_equal_layers_share_a_line_which_is_their_sum():
    model = analysis_of({f"layer_{i}/{part}": n for i in range(12) for part, n in (("up", 3), ("down", 4))})
    assert labels(model) == ["layer_0..11 x 12", "up", "down"]
    assert flops(model) == [str(12 * 7), str(12 * 3), str(12 * 4)]
    assert len(labels(model, merge=False)) == 12 * 3


def test_a_layer_that_differs_keeps_its_line():
    model = analysis_of({"layer_0": 5, "layer_1": 7, "layer_2": 7, "layer_3": 5})
    assert labels(model) == ["layer_0", "layer_1..2 x 2", "layer_3"]
    model = analysis_of({"layer_0": 7, "layer_1": 7}, params={"layer_0": 2, "layer_1": 3})
    assert labels(model) == ["layer_0", "layer_1"]


def test_layers_within_layers_are_merged_first():
    model = analysis_of({f"stage{s}/block{b}/conv": 5 for s in range(2) for b in range(3)})
    assert labels(model) == ["stage0..1 x 2", "block0..2 x 3", "conv"]
    assert flops(model) == ["30", "30", "30"]


def test_layers_that_stand_apart_are_gathered_if_they_hold_layers():
    work = {f"layer_{i}/{'mamba' if i % 2 else 'attention'}": 2 + i % 2 for i in range(6)}
    assert labels(analysis_of(work), depth=1) == ["layer_0,2,4 x 3", "layer_1,3,5 x 3"]
    norms = {"norm1": 2, "up": 9, "norm2": 2, "down": 9, "norm3": 2}
    assert labels(analysis_of(norms)) == list(norms)


names = st.lists(st.sampled_from(["a0", "a1", "a2", "b_0", "b_1", "x"]), max_size=3).map(tuple)


tables = st.dictionaries(
    st.builds(Row, names, st.sampled_from(DIRECTIONS), st.sampled_from("pq"), st.sampled_from(["", "f:1"])),
    st.integers(1, 3).map(lambda n: Cost.arithmetic("f32", n)),
    max_size=20,
)


@given(tables, st.integers(1, 4))
def test_passes_that_rename_keep_the_total(rows, most):
    analysis = Analysis("any", Cost.sum(rows.values()), saved_rows=rows)
    whole = analysis.total
    for shown in (
        views.merged(analysis).rows,
        views.top(analysis, most, lambda c: c.flops).rows,
        views.top_primitives(rows, most, lambda c: c.flops),
        views.top_sources(rows, most, lambda c: c.flops),
        views.cut(rows, most),
        views.without_sources(rows),
        views.without_free(rows),
    ):
        assert Cost.sum(shown.values()) == whole
    assert sum((Cost.sum(views.only(rows, d).values()) for d in DIRECTIONS), Cost()) == whole


@given(tables)
def test_merging_twice_changes_nothing(rows):
    once = views.merged(Analysis("any", Cost.sum(rows.values()), saved_rows=rows))
    assert views.merged(once).rows == once.rows


def test_top_keeps_the_costliest_of_each_level_and_sums_the_others():
    model = analysis_of({"a": 1, "b": 9, "c": 2, "d/x": 5, "d/y": 1})
    assert labels(model, top=2) == ["b", "d", "x", "y", "(2 others)"]
    assert flops(model, top=2) == ["9", "6", "5", "1", "3"]
    assert labels(model, top=1) == ["b", "(3 others)"]
    assert labels(model, by="source", top=1) == ["a.py:3"]


def test_two_programs_are_merged_where_both_have_the_same_layers_equal():
    plain = {f"block_{i}/{part}": 5 for i in range(4) for part in ("up", "down")}
    gated = {**plain, **{f"block_{i}/gate": 3 for i in range(4)}}
    before, after = views.merged_alike(analysis_of(plain), analysis_of(gated))
    assert list(after.by_scope()) == [f"block_0..3 x 4/{part}" for part in ("up", "down", "gate")]
    assert list(before.by_scope()) == [f"block_0..3 x 4/{part}" for part in ("up", "down")]
    changed = {**plain, "block_2/up": 6}
    before, after = views.merged_alike(analysis_of(plain), analysis_of(changed))
    assert set(before.by_scope()) == set(after.by_scope()) == set(plain)


def test_formulas_are_merged_and_ranked_too():
    def net(w, x):
        for i in range(3):
            with jax.named_scope(f"block_{i}"):
                x = x @ w
        with jax.named_scope("head"):
            return x @ w[:, :2]

    analysis = costax.analyze(net)(costax.spec("f32[8,8]"), costax.spec("f32[b,8]"))
    assert labels(analysis) == ["block_0..2 x 3", "head"]
    assert table(analysis).lines[0].cells[0] == "192*b"
    assert labels(analysis, merge=False, top=2) == ["block_0", "block_1", "(2 others)"]


def test_a_direction_shows_its_own_rows_alone():
    step = costax.analyze(jax.grad(lambda w, x: jnp.sum(jnp.tanh(x @ w))), params_argnums=0)(
        costax.spec("f32[8,3]"), costax.spec("f32[4,8]")
    )
    text = plain(render(step, direction="backward"))
    assert "The table shows only the backward part." in text
    backward = table(step, direction="backward")
    assert backward.total.cells[0] == "96"
    assert "params" not in backward.columns
