"""Programs of libraries that costax was not written with: the replay is XLA's number, and no difference lacks a cause.

`nox -s real` installs the libraries and runs this folder; a run of all tests leaves it out.
"""

from __future__ import annotations

import pytest

import costax
from programs import PROGRAMS, RealProgram

# The libraries warn of what future versions of jax take away.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_every_difference_to_xla_has_a_cause_and_an_equation(program: RealProgram):
    if program.missing:
        pytest.skip(program.missing)
    fn, args = program.make()
    found = costax.compare(fn)(*args)
    assert found.lowered.matches_xla is True
    assert found.compiled.matches_xla is True
    assert found.unexplained == ()
    for name in ("flops", "transcendentals"):
        changed = sum(getattr(delta, name) for delta in found.deltas)
        assert getattr(found.jaxpr.total, name) + changed == found.xla.get(name, 0)
    assert found.lowered.attributed >= 0.999
    assert [(step.number, step.name, step.attributed) for step in found.passes.steps if step.attributed < 0.999] == []
