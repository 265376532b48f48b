"""The costs of instructions for XLA's scheduler; `tests/compare/ahead_of_time` compiles with them."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import pytest

import costax
from costax import _jax
from costax.errors import InputError

LINE = re.compile(r'costs { name: "([\w.-]+)" cost_us: (\S+) }')


def written(prediction, path):
    prediction.save(path)
    head, *lines = path.read_text().splitlines()
    assert head.startswith("# ")
    return {name: float(cost) for name, cost in (LINE.fullmatch(line).groups() for line in lines)}


def test_each_instruction_has_the_time_of_one_run(tmp_path):
    def fn(x, w):
        return jax.lax.fori_loop(0, 7, lambda i, x: jnp.tanh(x @ w), x).sum()

    args = costax.spec("f32[128,128]"), costax.spec("f32[128,128]")
    prediction = costax.predict(costax.compare(fn, passes=False)(*args), "h100-sxm")
    costs = written(prediction, tmp_path / "costs.pbtxt")
    names = set(re.findall(r"%?([\w.-]+) = ", _jax.hlo_text(_jax.hlo_of(jax.jit(fn).lower(*args).compile()))))
    assert costs.keys() <= names
    (product,) = (part for part in prediction.parts if part.kernel.matmul)
    assert product.kernel.times == 7
    assert costs[product.kernel.instruction] == pytest.approx(1e6 * product.seconds / 7, rel=1e-5)
    assert sum(costs.values()) < 1e6 * prediction.seconds


def test_a_loop_that_runs_elsewhere_too_has_the_mean_of_its_runs(tmp_path):
    # Runs of 3 us each in a loop of 2 iterations, and of 6 us each in one of 4: (2 x 3 + 4 x 6) / 6.
    from costax.performance.hardware import device
    from costax.performance.kernels import Kernel
    from costax.performance.prediction import Prediction
    from costax.performance.roofline import KernelTime, Timing

    analysis = costax.analyze(jnp.tanh)(costax.spec("f32[8]"))
    parts = [
        KernelTime(Kernel("add", (), "", times=times, instruction="add.3"), Timing(seconds, 0, 0, {}, 0))
        for times, seconds in ((2, 3e-6), (4, 6e-6))
    ]
    costs = written(Prediction(analysis, device("h100-sxm"), parts, {}, "XLA's own"), tmp_path / "costs.pbtxt")
    assert costs == {"add.3": 5.0}


def test_kernels_that_are_not_xlas_have_no_names(tmp_path):
    analysis = costax.analyze(jnp.matmul)(costax.spec("f32[8,8]"), costax.spec("f32[8,8]"))
    prediction = costax.predict(analysis, "h100-sxm")
    with pytest.raises(InputError, match="no names of XLA") as caught:
        prediction.save(tmp_path / "costs.pbtxt")
    assert "--xla --save" in caught.value.cure
    assert not list(tmp_path.iterdir())


def test_the_cost_of_a_collective_is_its_whole_time_and_not_what_is_exposed(tmp_path):
    # XLA decides with the cost what runs beside it: a gather that the old schedule hides must not look free.
    from costax.performance.hardware import device
    from costax.performance.kernels import Kernel
    from costax.performance.prediction import Prediction
    from costax.performance.roofline import KernelTime, Timing

    analysis = costax.analyze(jnp.tanh)(costax.spec("f32[8]"))
    gather = Kernel("all-gather-start", (), "", times=2, instruction="all-gather-start.1")
    part = KernelTime(gather, Timing(5e-6, 0, 0, {}, 0), hidden=4e-6)
    assert part.seconds == pytest.approx(2e-6)
    prediction = Prediction(analysis, device("h100-sxm"), [part], {}, "XLA's own")
    assert written(prediction, tmp_path / "costs.pbtxt") == {"all-gather-start.1": 5.0}
