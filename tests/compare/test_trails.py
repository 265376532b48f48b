"""What a trail of passes says of its steps: written out by hand, without a compiler."""

from __future__ import annotations

import pytest

from costax.compare.owners import NamedOwner, OwnersByName
from costax.compare.passes import InstructionChange, PassStep, PassTrail, Steps, dumped_versions
from costax.hlo.replay import Properties
from costax.hlo.series import ModuleSeries
from hlo_oracle import from_text


def change(name, before, after, scope, flops):
    cost = Properties(flops, 0, 0)
    return InstructionChange(name, before, after, cost, {NamedOwner(scope, "add"): cost})


ADD = "add = f32[8] add(p, p)"
CHANGES = [
    change("new.1", "", ADD, ("layer_1",), 3),
    change("new.2", "", ADD, ("layer_10",), 5),
    change("new.3", "", ADD, ("layer_1", "mlp"), 7),
    change("gone", ADD, "", ("layer_10", "mlp"), -11),
    change("other", ADD, ADD, ("head",), 2),
]
STEP = PassStep("simplification", "algsimp", Properties(6, 0, 0), CHANGES)
TRAIL = PassTrail("m", Properties(100, 0, 0), Properties(106, 0, 0), [STEP], 2)


def test_instructions_are_new_gone_or_changed():
    assert (STEP.added, STEP.removed, STEP.changed) == (3, 1, 1)


@pytest.mark.parametrize(
    ("scope", "flops"), [("layer_1", 3 + 7), ("layer_10", 5 - 11), ("layer_1/mlp", 7), ("mlp", 7 - 11), ("head", 2)]
)
def test_a_scope_stands_for_what_is_inside_and_for_no_longer_name(scope, flops):
    assert TRAIL.by_pass(scope) == {"algsimp": Properties(flops, 0, 0)}
    assert sum(part.cost.flops for part in TRAIL.changes("algsimp", scope)) == flops


def test_the_start_of_a_pipeline_is_the_work_of_the_pass_that_runs_it(tmp_path):
    names = (
        "before_optimizations",
        "0001.outer.after_pipeline-start.before_dce",
        "0002.outer.after_dce.before_fusion",
        "0003.inner.after_pipeline-start.before_cse",
        "0004.inner.after_cse.before_pipeline-end",
        "0005.outer.after_fusion.before_pipeline-end",
        "cpu_after_optimizations",
    )
    for name in names:
        (tmp_path / f"module_0001.f.{name}.hlo.pb").write_bytes(b"")
    found = [(dump.pipeline, dump.name) for dump in dumped_versions(tmp_path).dumps]
    assert found == [
        ("", ""),
        ("outer", "pipeline-start"),
        ("outer", "dce"),
        ("inner", "fusion"),
        ("inner", "cse"),
        ("outer", "fusion"),
        ("", "after_optimizations"),
    ]


def module(*lines):
    body = "\n  ".join(("p = f32[8] parameter(0)", "q = f32[8] parameter(1)", "r = f32[8] parameter(2)", *lines))
    return from_text(f"ENTRY e {{\n  {body}\n  ROOT t = (f32[8]) tuple(a)\n}}\n")


def test_work_without_a_name_is_no_work_with_an_owner():
    named = 'metadata={op_name="jit(f)/layer/add"}'
    lines = (f"a = f32[8] add(p, q), {named}", "b = f32[8] negate(r)")
    series = ModuleSeries()
    first, second = series.add(module(*lines)), series.add(module(*lines, f"k = f32[8] add(p, p), {named}"))
    steps = Steps(first, OwnersByName(first))
    steps.add("", "a pass", second)
    (step,) = steps.found
    assert step.cost.flops == 8
    # Of three instructions of 8 operations each one has no name. Nothing reads it, and nothing else reads its argument.
    assert step.attributed == pytest.approx(2 / 3)
