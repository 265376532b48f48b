"""Joins of profiles that nobody here made; see the README of the folder of oracles."""

from __future__ import annotations

from pathlib import Path

import pytest

import costax

ORACLES = Path(__file__).resolve().parents[3] / "shared" / "oracles"
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not ORACLES.is_dir(), reason="the oracles do not lie beside the repository: ../shared/oracles"),
]


@pytest.fixture(scope="module")
def step():
    """A training step of a GPT on an A100, whose kernels Nsight Systems timed; one run took 127.465 ms."""
    folder = ORACLES / "a100_step"
    return costax.join(
        folder / "after_optimizations.hlo.pb.xz", folder / "kernel_times.csv", device="a100-sxm-40", step=127.465e-3
    )


@pytest.mark.slow
def test_a_step_on_an_a100_is_joined(step):
    assert step.coverage >= 0.99
    assert not step.untimed
    assert not step.unjoined
    assert all(row.name.endswith("-done") or row.opcode.endswith("-done") for row in step.waiting)
    assert sum(row.entry and row.measured is not None for row in step.rows) == 2510
    assert step.entry.seconds == pytest.approx(125.138e-3, abs=1e-6)
    assert step.flops == 9_353_037_967_954
    # 9.353 TFLOP in 127.465 ms, of 312 TFLOP/s.
    assert step.hfu == pytest.approx(0.235, abs=5e-4)
    assert step.peak == ("bf16", 312e12)


@pytest.mark.slow
def test_the_layers_of_the_transformer_have_their_directions(step):
    prefix = "xformer_lm.apply/xformer_lm/xformer_lm.compute_predictions/lm/transformer/x_layers_"
    layers = {scope: parts for scope, parts in step.by_scope_and_direction(6).items() if scope.startswith(prefix)}
    assert len(layers) == 12
    for parts in layers.values():
        # A layer of a transformer costs twice as much backward as forward.
        assert parts["backward"].cost.flops == pytest.approx(2 * parts["forward"].cost.flops, rel=0.02)
        assert 1.2 < parts["backward"].seconds / parts["forward"].seconds < 2.2
        assert sum(part.seconds for part in parts.values()) == pytest.approx(7.9e-3, rel=0.05)
    assert sum(part.seconds for part in step.by_scope().values()) == pytest.approx(step.total.seconds)


def test_a_convolution_on_an_mi300x_is_joined_with_the_module_in_the_profile():
    found = costax.join(None, ORACLES / "mi300x_conv" / "profile.xplane.pb")
    convolution = found.by_instruction()["cudnn-conv.1"]
    assert convolution.executions == 79
    assert convolution.seconds_in_all == pytest.approx(12_531.616e-6)
    # XProf divides the FLOPs of every kernel by the time: 79 kernels are 40 runs of two kernels, one of which is lost.
    assert 79 * convolution.cost.flops / convolution.seconds_in_all == pytest.approx(206_240.8e9, rel=1e-4)
    assert (found.runs, found.devices) == (40, 8)
    assert found.coverage == 1
