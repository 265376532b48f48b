"""Two analyses beside each other."""

from __future__ import annotations

import jax

import costax
from costax.core.cost import FIELDS

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
