"""The utilisation of a step of a module. Expected are counts by hand, and the figures of a public step on A100s."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner
from jax import lax

import costax
from costax.cli.app import main
from costax.errors import InputError

ORACLE = Path(__file__).resolve().parents[3] / "shared/oracles/a100_step/after_optimizations.hlo.pb.xz"
LAYERS, ROWS, WIDTH = 7, 128, 256
PRODUCTS = LAYERS * 2 * ROWS * WIDTH**2


def f32(*shape):
    return jax.ShapeDtypeStruct(shape, "float32")


def net(ws, x):
    return lax.scan(lambda c, w: (c @ w, None), x, ws)[0]


@pytest.fixture(scope="module")
def stages():
    lowered = jax.jit(net).lower(f32(LAYERS, WIDTH, WIDTH), f32(ROWS, WIDTH))
    return lowered, lowered.compile()


def test_the_flops_of_a_module_are_those_that_run(stages):
    for stage in stages:
        found = costax.analyze(stage)().mfu(1e-3, "h100-sxm")
        # The counter of the loop adds a few integer operations.
        assert PRODUCTS <= found.flops("hardware") < 1.001 * PRODUCTS
        assert found.hfu == pytest.approx(PRODUCTS / 1e-3 / found.peak, rel=1e-3)
        # XLA counts the body of the loop once.
        assert PRODUCTS / LAYERS <= found.flops("xla") < 1.01 * PRODUCTS / LAYERS
        (reason,) = found.count("xla").reasons
        assert found.flops("hardware") + reason.count == found.flops("xla")


def test_model_flops_of_a_module_are_not_known_and_it_says_where_they_are(stages):
    found = costax.analyze(stages[1])().mfu(1e-3, "h100-sxm")
    assert {count.convention for count in found.counts} == {"hardware", "xla"}
    assert {"model", "maxtext", "palm", "fvcore"} <= set(found.omitted)
    with pytest.raises(InputError, match="gives no number") as caught:
        found.mfu()
    assert "costax mfu path/to/file.py:name" in str(caught.value)
    assert "compiled for a CPU" in " ".join(found.notes)


def test_recomputed_work_is_told_by_its_names(stages):
    def loss(ws, x):
        return jnp.sum(jax.checkpoint(lambda x: jnp.tanh(jnp.tanh(x @ ws[0]) @ ws[1]))(x))

    lowered = jax.jit(jax.grad(loss)).lower(f32(2, WIDTH, WIDTH), f32(ROWS, WIDTH))
    notes = " ".join(costax.analyze(lowered)().mfu(1.0, "h100-sxm").notes)
    assert "are recomputed" in notes
    assert "not optimised" in notes
    assert "recomputed" not in " ".join(costax.analyze(stages[1])().mfu(1.0, "h100-sxm").notes)


def test_the_devices_of_a_module_are_those_that_it_states(stages, tmp_path):
    module = costax.analyze(stages[1])()
    assert module.mfu(1e-3, "h100-sxm", devices=1).devices == 1
    with pytest.raises(InputError, match="compiled for 1 device, not for 8"):
        module.mfu(1e-3, "h100-sxm", devices=8)
    # Text of XLA before optimisation does not say how many devices run it: each of them runs the module.
    path = tmp_path / "module.txt"
    path.write_text("HloModule m\nENTRY e { p = f32[8,8] parameter(0) ROOT d = f32[8,8] dot(p, p), "
                    "lhs_contracting_dims={1}, rhs_contracting_dims={0} }\n")  # fmt: skip
    found = costax.analyze(path)().mfu(1e-3, "h100-sxm", devices=4)
    assert found.flops("hardware") == 4 * 2 * 8**3
    assert found.flops_per_second_per_device("hardware") == pytest.approx(2 * 8**3 / 1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--step", "0"), "positive number of seconds"),
        (("--step", "1e-9"), "impossible"),
        (("--step", "1", "--devices", "3"), "not for 3"),
        (("--step", "1", "--input", "f32[2]"), "does not apply"),
        (("--step", "1", "--module", "x"), "applies to a folder"),
    ],
)
def test_the_command_takes_modules_and_refuses_what_does_not_fit(stages, tmp_path, arguments, words):
    path = tmp_path / "step.txt"
    path.write_text(stages[1].as_text())
    done = CliRunner().invoke(main, ["mfu", str(path), "--device", "h100-sxm", *arguments])
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.output
    saved = tmp_path / "mfu.json"
    usual = ["mfu", str(path), "--device", "h100-sxm", "--step", "1e-3", "--tokens", "64", "--save", str(saved)]
    done = CliRunner().invoke(main, usual)
    assert done.exit_code == 0, done.output
    assert "HFU" in done.stdout
    record = json.loads(saved.read_text())
    assert record["tokens_per_second_per_device"] == 64 / 1e-3
    assert PRODUCTS <= record["conventions"][0]["flops_per_step"] < 1.001 * PRODUCTS


@pytest.mark.once
def test_a_public_step_on_a100s_has_its_hfu():
    if not ORACLE.exists():
        pytest.skip("shared/oracles is not beside the repository")
    found = costax.analyze(ORACLE)().mfu(0.127465, "a100-sxm-40")
    assert found.devices == 4
    assert found.flops("hardware") == 4 * 9_353_037_967_954
    assert found.hfu == pytest.approx(9_353_037_967_954 / 0.127465 / 312e12)
    assert f"{found.hfu:.1%}" == "23.5%"
