"""The waterfall: a row for each cause of a stage, one for each run of a pass, and a sum below each stage."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp

import costax
from costax.compare.base_comparison import BaseComparison
from costax.compare.causes import Delta
from costax.core.cost import Cost
from costax.core.listing import Items
from costax.hlo.collectives import Collective, Share
from costax.report import sharding
from costax.report.text import plain
from costax.report.waterfall import _per_device, waterfall_rows


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


def collective(name, *shares, scope=""):
    return Collective(name, "all-reduce", 64, 112, ((0, 1),), ("data",), 3, scope=scope, shares=shares)


def of_one_device(*collectives):
    """What the notes of a comparison say of its collectives, its table of them, and `print(communication())`."""
    ledger = SimpleNamespace(memory={}, devices=2, collectives=collectives)
    comparison = SimpleNamespace(compiled=ledger)
    comparison.communication = lambda: BaseComparison.communication(comparison)
    (table,) = sharding.communication(comparison)
    return list(_per_device(ledger))[-1], plain(table).splitlines(), str(comparison.communication()).splitlines()


def test_a_combined_collective_is_one_and_has_a_line_for_each_layer():
    shares = [Share(scope, "backward", 16, 28) for scope in ("", "mlp", "head", "stem")]
    note, table, _ = of_one_device(collective("combined", *shares))
    assert note.startswith("all-reduce over data: 1 in the program (combined from 4, ")
    assert f"each device sends {3 * 112} B." in note
    assert len([line for line in table if "all-reduce" in line]) == 4
    note, table, _ = of_one_device(collective("one", scope="mlp"), collective("other", scope="head"))
    assert note.startswith("all-reduce over data: 2 in the program, each device sends")


def test_the_communication_of_a_comparison_is_printed_in_the_words_of_its_table():
    collectives = collective("one"), collective("other", scope="mlp")
    _, (title, *table), printed = of_one_device(*collectives)
    assert title == "Sent by one device, 2 of 2"
    assert [line.split() for line in table if line] == [line.split() for line in printed if line]
    assert "(no scope)" in str(printed)
    words = ("layer", "direction", "collective", "mesh axes", "link", "runs", "sent")
    assert all(word in printed[0] for word in words)
    listed = str(Items(collectives)).splitlines()[0]
    assert all(word in listed for word in words)
