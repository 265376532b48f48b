"""Two analyses beside each other."""

from __future__ import annotations

import jax
import pytest

import costax
from costax.core.cost import FIELDS
from costax.errors import InputError

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


class Model:
    def __call__(self, x):
        return x @ x

    def summary(self):
        return "a table"


@pytest.mark.parametrize("value", [Model(), costax.analyze(Model()), "model.py:Model"])
def test_a_model_is_not_compared_before_it_is_analysed(value):
    analysis = costax.analyze(Model(), "f32[8,8]")
    for pair in ((value, value), (analysis, value), (value, analysis)):
        with pytest.raises(InputError, match=rf"compares analyses, got .* {type(value).__name__}") as caught:
            costax.diff(*pair)
        assert "costax.analyze(" in caught.value.cure
    assert costax.diff(analysis, analysis).total.change("macs").before == 8 * 8 * 8
