"""The waterfall: a row for each cause of a stage, one for each run of a pass, and a sum below each stage."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp

import costax
from costax.compare.causes import Delta
from costax.core.cost import Cost
from costax.report.waterfall import waterfall_rows


def delta(stage: str, cause: str, flops: int, pass_name: str = "", run: int = 0) -> Delta:
    return Delta(cause, stage, flops, 0, "dot_general", (), "a.py:1", 1, "", pass_name, run, (1,))


def rows(*deltas: Delta) -> list[tuple[str, int]]:
    jaxpr = SimpleNamespace(total=Cost.macs_of("f32", 50))
    return [(row.label, row.flops) for row in waterfall_rows(SimpleNamespace(jaxpr=jaxpr, deltas=deltas))]


def test_a_pass_has_a_row_for_each_run_in_the_order_of_runs():
    found = rows(
        delta("compiled", "common subexpressions merged", -3, "cse", 9),
        delta("compiled", "algebra simplified", -20, "algsimp", 12),
        delta("compiled", "algebra simplified", 1, "algsimp", 4),
        delta("compiled", "algebra simplified", 2, "algsimp", 4),
        delta("compiled", "new-pass", 7, "new-pass", 10),
    )
    assert found == [
        ("this program (jaxpr)", 100),
        ("= by XLA's rules", 100),
        ("= as XLA converted it (HLO)", 100),
        ("algsimp, run 1: algebra simplified", 3),
        ("cse: common subexpressions merged", -3),
        # A pass without plain words keeps its own name.
        ("new-pass", 7),
        ("algsimp, run 2: algebra simplified", -20),
        ("= XLA, compiled", 87),
    ]


def test_causes_of_the_other_stages_stand_by_size_and_stages_without_any_are_left_out():
    found = rows(
        delta("jaxpr", "products with padding", -4),
        delta("jaxpr", "loop body counted once", -30),
        delta("converted", "folded in the conversion to HLO", -6),
        delta("xla", "float32 rounding", 1),
    )
    assert found == [
        ("this program (jaxpr)", 100),
        ("loop body counted once", -30),
        ("products with padding", -4),
        ("= by XLA's rules", 66),
        ("= as XLA converted it (HLO)", 66),
        ("folded in the conversion to HLO", -6),
        ("= as XLA converted it (HLO)", 60),
        ("= XLA, compiled", 60),
        ("float32 rounding", 1),
        ("= XLA reports", 61),
    ]


def test_the_rows_of_a_comparison_are_the_runs_of_its_passes():
    found = costax.compare(lambda x: (jnp.sum(x), jax.lax.lgamma(x)))(costax.spec("f32[1000]"))
    rows = [row for row in waterfall_rows(found) if not row.is_sum and row.deltas[0].pass_name]
    runs = dict.fromkeys((delta.pass_name, delta.run) for row in rows for delta in row.deltas)
    assert len(rows) == len(runs) >= 1
    assert [run for _, run in runs] == sorted(run for _, run in runs)
    for row, (name, run) in zip(rows, runs, strict=True):
        (step,) = (step for step in found.passes.steps if (step.name, step.number) == (name, run))
        assert (row.flops, row.transcendentals) == step.cost[:2]
