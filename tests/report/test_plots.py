"""Plots: what they draw is what the analysis says, and they go to vector files."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import costax
from costax.errors import ExtraError, InputError

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

pytest.importorskip("matplotlib", reason="plots need matplotlib: costax[plots]")


def net(w, x):
    for i in range(4):
        with jax.named_scope(f"block_{i}"):
            x = jnp.tanh(x @ w)
    with jax.named_scope("head"):
        return x @ w[:, :3]


def counted(tokens: int = 16):
    return costax.analyze(net, params_argnums=0)(costax.spec("f32[8,8]"), costax.spec(f"f32[{tokens},8]"))


def test_a_breakdown_has_a_bar_for_each_layer_and_they_add_up():
    axes = counted().plot_breakdown(field="macs")
    widths = [bar.get_width() for bar in axes.patches]
    assert sum(widths) == counted().total.macs
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["block_1..3 x 3", "block_0", "head"]


def test_a_breakdown_sums_what_it_does_not_show():
    axes = counted().plot_breakdown(by="primitive", field="ops", top=1)
    assert next(label.get_text() for label in axes.get_yticklabels()) == "dot_general"
    assert sum(bar.get_width() for bar in axes.patches) == counted().total.ops


def test_scaling_draws_the_totals():
    points = {tokens: counted(tokens) for tokens in (16, 32, 64)}
    axes = costax.plot_scaling(points, field="macs", label="tokens")
    total = axes.lines[0]
    assert list(total.get_xdata()) == [16, 32, 64]
    assert list(total.get_ydata()) == [points[tokens].total.macs for tokens in (16, 32, 64)]


def test_a_roofline_lies_under_its_roof():
    axes = counted(4096).plot_roofline("h100-sxm")
    (roof,) = axes.lines
    (_, ridge, _), (_, peak, _) = roof.get_xdata(), roof.get_ydata()
    # The data sheet: 3.35 TB/s, and 494.7 TFLOP/s of TF32, which is what XLA multiplies float32 in.
    assert (peak, ridge) == (pytest.approx(494.7e12, rel=1e-3), pytest.approx(494.7 / 3.35, rel=1e-3))
    marks = [(x, y) for drawn in axes.collections for x, y in drawn.get_offsets()]
    assert len(marks) >= 5
    assert all(0 < y <= peak * min(1, x / ridge) * 1.001 for x, y in marks)


def names_of(axes):
    """The names beside the marks: every annotation but those of the roof, which are grey."""
    return [text for text in axes.texts if text.get_color() != "#444444"]


def test_the_marks_that_take_most_time_have_the_names_of_their_layers():
    axes = counted(4096).plot_roofline("h100-sxm")
    names = [text.get_text() for text in names_of(axes)]
    assert "head" in names
    assert {name for name in names if name != "head"} <= {f"block_{number}" for number in (0, 1, 2, 3, "*")}
    assert len(set(names)) == len(names) > 1
    marks = {tuple(place) for drawn in axes.collections for place in drawn.get_offsets()}
    assert {text.xy for text in names_of(axes)} <= marks


def test_names_of_marks_are_few_and_do_not_overlap():
    def many(x):
        for i in range(40):
            with jax.named_scope(f"part_{chr(97 + i % 26)}{i}x"):
                x = jnp.tanh(x[: 4000 - 90 * i] @ jnp.ones((64 + 8 * i, 72 + 8 * i)))
        return x

    axes = costax.analyze(many)("f32[4096,64]").plot_roofline("h100-sxm")
    axes.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in names_of(axes)]
    assert 2 <= len(boxes) <= 8
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_a_program_without_layers_has_the_names_of_its_kernels():
    (name,) = (text.get_text() for text in names_of(product().plot_roofline("h100-sxm")))
    assert name == "dot_general"


def test_the_slanted_roof_has_the_bandwidth_of_the_device():
    (slanted,) = (text for text in counted(4096).plot_roofline("h100-sxm").texts if text.get_rotation())
    assert slanted.get_text() == "3.35 TB/s"
    assert 10 < slanted.get_rotation() < 80


def test_what_bounds_a_kernel_has_the_same_colour_in_every_plot():
    """Programs bound by the matrix unit alone, by memory alone, and by several: the first is blue, memory orange."""
    seen = {}
    for axes in (each.plot_roofline("h100-sxm") for each in (product(), elementwise(), counted(4096))):
        drawn = {c.get_label(): tuple(c.get_facecolor()[0][:3].round(2)) for c in axes.collections if c.get_label()}
        assert all(seen.setdefault(name, colour) == colour for name, colour in drawn.items())
    assert seen["bound by memory"] == (0.9, 0.62, 0.0)
    assert seen["bound by matmul unit"] == (0.0, 0.45, 0.7)


def elementwise():
    return costax.analyze(lambda x: x + 1)("f32[1048576]")


def product():
    return costax.analyze(lambda x, y: x @ y)("f32[4096,4096]", "f32[4096,4096]")


def test_plots_go_where_they_are_told_and_into_vector_files(tmp_path):
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert counted().plot_breakdown(ax=left) is left
    assert counted().plot_roofline("tpu-v5e", ax=right) is right
    figure.savefig(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().count("<path") > 10


def test_what_cannot_be_drawn_is_an_error(monkeypatch):
    with pytest.raises(InputError, match="must be a count of Cost"):
        counted().plot_breakdown(field="speed")
    with pytest.raises(InputError, match="points is empty"):
        costax.plot_scaling({})
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ExtraError, match=r"\[plots\]"):
        counted().plot_breakdown()
