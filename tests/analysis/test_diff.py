"""Two analyses beside each other."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest
from click.testing import CliRunner

import costax
from costax.cli.app import main
from costax.core.cost import FIELDS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
x, w = costax.spec("f32[4,8]"), costax.spec("f32[8,8]")


def dense(name, n):
    def fn(w, x):
        with jax.named_scope(name):
            for i in range(n):
                with jax.named_scope(f"layer_{i}"):
                    x = x @ w
        return x

    return costax.analyze(fn, params_argnums=0)(w, x)


def test_the_layers_of_a_depth_add_up_to_the_totals():
    found = costax.diff(dense("net", 3), dense("net", 5))
    for depth in (1, 2, None):
        for field in (*FIELDS, "params", "param_bytes"):
            layers = [layer.change(field) for layer in found.layers(depth)]
            total = found.total.change(field)
            assert (sum(c.before for c in layers), sum(c.after for c in layers)) == (total.before, total.after)


def test_layers_are_matched_by_their_scope():
    found = {layer.scope: layer.change("macs") for layer in costax.diff(dense("net", 1), dense("net", 2)).layers()}
    assert found["net/layer_0"].delta == 0
    assert (found["net/layer_1"].before, found["net/layer_1"].after) == (0, 4 * 8 * 8)
    assert found["net/layer_1"].ratio is None


def test_the_name_of_the_whole_does_not_part_its_layers():
    found = costax.diff(dense("small", 1), dense("large", 1))
    assert [layer.scope for layer in found.layers() if layer.change("macs").before] == ["layer_0"]
    assert not any(layer.change("macs").delta for layer in found.layers())


def test_a_depthwise_separable_convolution_saves_what_the_paper_says():
    # MobileNet: 1/N + 1/k^2 of the multiplications. Source: Howard et al. 2017, section 3.1.
    names = [f"{EXAMPLES}/conv.py:{name}" for name in ("standard", "depthwise_separable")]
    done = CliRunner().invoke(main, ["diff", *names, "--depth", "1"])
    assert done.exit_code == 0, done.output
    assert f"{1 / 128 + 1 / 9:.3g}" in done.output


@pytest.mark.parametrize("arguments", [["--field", "speed"], ["--depth", "0"]])
def test_wrong_options_end_with_2(arguments):
    name = f"{EXAMPLES}/conv.py:standard"
    done = CliRunner().invoke(main, ["diff", name, name, *arguments])
    assert done.exit_code == 2


def test_a_record_stands_for_its_analysis(tmp_path):
    name = f"{EXAMPLES}/conv.py:standard"
    record = tmp_path / "before.json"
    assert CliRunner().invoke(main, ["analyze", name, "--save", str(record)]).exit_code == 0
    done = CliRunner().invoke(main, ["diff", str(record), name, "--changed"])
    assert done.exit_code == 0, done.output
    assert "same in both" in done.output
