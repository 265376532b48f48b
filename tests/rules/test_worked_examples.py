"""Every worked example: our count is the formula's, and XLA's is ours or differs as the example says."""

from __future__ import annotations

import jax
import pytest

import costax
from costax.core.conventions import as_xla
from costax.rules.examples import Case, Differs, cases

CASES = cases()
IDS = [f"{c.primitive}-{i}" for i, c in enumerate(CASES)]


def primitives(case: Case, args) -> set[str]:
    return {node.label for _, _, node in costax.analyze(case.function)(*args).tree.walk()}


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_count_is_the_formula(case: Case):
    args = [costax.spec(arg) for arg in case.args]
    analysis = costax.analyze(case.function)(*args)
    total = analysis.total
    assert case.primitive in primitives(case, args)
    assert (total.macs, total.transcendentals) == (case.macs, case.transcendentals)
    if case.flops is not None:
        assert total.flops == case.flops
    if case.ops is not None:
        assert total.ops == case.ops


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_xla_agrees_or_differs_as_the_case_says(case: Case):
    args = [costax.spec(arg) for arg in case.args]
    ours = as_xla(costax.analyze(case.function)(*args).total)
    xla = jax.jit(case.function).lower(*args).cost_analysis()
    flops, transcendentals = xla.get("flops", 0), xla.get("transcendentals", 0)
    if isinstance(case.xla, Differs):
        assert case.xla.why
        theirs = (case.xla.flops, case.xla.transcendentals)
        # A number that the example leaves out is ours.
        expected = tuple(mine if count is None else count for count, mine in zip(theirs, ours, strict=True))
        assert expected != ours
    else:
        expected = ours
    assert (flops, transcendentals) == expected
