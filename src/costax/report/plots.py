"""Plots for papers, drawn by matplotlib, in colours that colour-blind readers can distinguish.

Each function draws on `ax`, or on a new figure, and returns the axes: `ax.figure.savefig("x.pdf")`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from math import atan2, degrees, log10
from typing import TYPE_CHECKING, Any, Final

from costax.analysis import views
from costax.analysis.analysis import Analysis
from costax.core import units
from costax.core.cost import Cost, Count
from costax.core.printable import printable
from costax.errors import ExtraError, InputError
from costax.report.colours import COLOURS, hue

if TYPE_CHECKING:
    from costax.performance.roofline import KernelTime

MARKS: Final = ("o", "D", "s", "^")
_NAMES: Final[Mapping[str, str]] = {"flops": "FLOPs", "macs": "MACs", "ops": "OPs", "bytes_unfused": "bytes, unfused"}
_GREY: Final = "#444444"
# Kernels that take a smaller share of the time are not drawn: they would stretch the axes.
_LEAST_SHARE: Final = 1e-4
_LEGEND_MARK: Final = 30
# How many marks of a roofline get the name of their layer, and its size in points.
_MOST_NAMES: Final = 8
_NAME_SIZE: Final = 7


def plot_breakdown(
    analysis: Analysis,
    *,
    field: str = "flops",
    by: str = "scope",
    depth: int | None = None,
    top: int = 10,
    ax: Any = None,
) -> Any:
    """Draw a bar for each layer (equal layers share one bar) or primitive, the costliest first.

    field: a count of `Cost`. by: "scope", "primitive", "source", "dtype" or "direction". depth: the number of levels
    of scopes, by default enough for three bars. top: the number of bars; one more bar is the sum of all others.
    Raises InputError for an unknown field, ExtraError if matplotlib is not installed.
    """
    of = _field(field)
    parts = _parts(analysis, by, depth, of)
    ranked = sorted(parts.items(), key=lambda part: -part[1])
    if len(ranked) > top + 1:
        ranked = [*ranked[:top], (f"({len(ranked) - top} others)", sum(count for _, count in ranked[top:]))]
    axes = _axes(ax, height=0.6 + 0.3 * len(ranked))
    total = of(analysis.total)
    positions = range(len(ranked))
    bars = axes.barh(positions, [float(count) for _, count in ranked], color=COLOURS[0])
    axes.bar_label(bars, [f"{units.share(count, total)} %" for _, count in ranked], padding=3, fontsize="small")
    axes.set_yticks(positions, [_literal(name) or "(no scope)" for name, _ in ranked])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(_short(field))
    axes.set_xlabel(f"{_NAMES.get(field, field)} of {_literal(analysis.name)}")
    return _bare(axes)


def plot_scaling(
    points: Mapping[int, Analysis],
    *,
    field: str = "flops",
    label: str = "",
    depth: int = 1,
    top: int = 6,
    ax: Any = None,
) -> Any:
    """Draw the growth of a count on log axes: the total and the costliest layers over a size.

    Args:
        points: The analysis at each size.
        field: A count of `Cost`.
        label: The name of the size.
        depth: The number of levels of scopes.
        top: The number of layers.
        ax: The axes of matplotlib to draw on; by default new ones.

    Raises InputError for an unknown field or without points.
    """
    if not points:
        raise InputError("points is empty.", why="A curve needs points.", cure="Pass {size: analysis, ...}.")
    of = _field(field)
    sizes = sorted(points)
    curves = {size: _parts(points[size], "scope", depth, of) for size in sizes}
    last = curves[sizes[-1]]
    axes = _axes(ax, width=7.6)
    axes.plot(sizes, [float(of(points[size].total)) for size in sizes], color=_GREY, marker="o", label="total", lw=2)
    for i, name in enumerate(sorted(last, key=lambda name: -last[name])[:top] if len(last) > 1 else ()):
        heights = [float(curves[size].get(name, 0)) or None for size in sizes]
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKS[i % len(MARKS)], "ms": 4, "ls": ("-", "--")[i % 2]}
        axes.plot(sizes, heights, label=_literal(name) or "(no scope)", **style)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(_short(field))
    axes.set_xlabel(_literal(label))
    axes.set_ylabel(_NAMES.get(field, field))
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return _bare(axes)


def plot_roofline(analysis: Analysis, device: str, *, ax: Any = None) -> Any:
    """Draw a program's kernels under the roof of a device; a mark's area is its share of the time.

    The marks that take most time have the name of their layer, the slanted roof has the bandwidth.
    """
    from costax.performance.prediction import predict

    prediction = predict(analysis, device)
    axes = _axes(ax)
    least = prediction.seconds * _LEAST_SHARE
    parts = [p for p in prediction.parts if p.kernel.flops and p.kernel.moved and p.seconds > least]
    most = max((part.seconds for part in parts), default=1.0)
    for bound in sorted({part.timing.bound for part in parts}, key=hue):
        chosen = [part for part in parts if part.timing.bound == bound]
        x = [part.kernel.flops / part.kernel.moved for part in chosen]
        y = [part.kernel.flops / part.timing.expected for part in chosen]
        area = [_area(part.seconds, most) for part in chosen]
        axes.scatter(
            x,
            y,
            s=area,
            color=COLOURS[hue(bound)],
            marker=MARKS[hue(bound) % len(MARKS)],
            alpha=0.7,
            lw=0.5,
            ec="white",
            label=f"bound by {bound}",
        )
    slope = None
    if prediction.peak and prediction.ridge and prediction.device.bandwidth:
        (unit, peak), ridge = prediction.peak, prediction.ridge
        low = min([part.kernel.flops / part.kernel.moved for part in parts], default=ridge) / 2
        high = max([part.kernel.flops / part.kernel.moved for part in parts], default=ridge) * 2
        axes.plot([low, ridge, max(high, ridge * 4)], [peak * low / ridge, peak, peak], color=_GREY, lw=1.5)
        slope = (low, peak * low / ridge), (ridge, peak)
        axes.annotate(
            f"{unit}, {units.short(round(peak))}FLOP/s",
            (max(high, ridge * 4), peak),
            (0, 5),
            textcoords="offset points",
            ha="right",
            color=_GREY,
            fontsize="small",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("FLOPs per byte")
    axes.set_ylabel("FLOP/s, predicted")
    axes.set_title(_literal(f"{analysis.name} on {prediction.device.name}"), fontsize="medium", loc="left")
    for mark in axes.legend(frameon=False, fontsize="small", loc="lower right").legend_handles:
        mark.set_sizes([_LEGEND_MARK])
    if slope is not None and prediction.device.bandwidth:
        _name_slope(axes, *slope, units.rate(prediction.device.bandwidth.value, "B/s"))
    _name_marks(axes, parts)
    return _bare(axes)


def _name_slope(axes: Any, low: tuple[float, float], ridge: tuple[float, float], bandwidth: str) -> None:
    """Write the bandwidth along the slanted roof, above its lower part, where few kernels are."""
    (x, y), (to_x, to_y) = axes.transData.transform([low, ridge])
    axes.annotate(
        bandwidth,
        ((low[0] ** 3 * ridge[0]) ** 0.25, (low[1] ** 3 * ridge[1]) ** 0.25),
        (-3, 3),
        textcoords="offset points",
        rotation=degrees(atan2(to_y - y, to_x - x)),
        rotation_mode="anchor",
        ha="center",
        va="bottom",
        color=_GREY,
        fontsize="small",
    )


def _name_marks(axes: Any, parts: Sequence[KernelTime]) -> None:
    """Write the name of the layer beside the marks that take most time, where the names do not overlap.

    Marks in one place whose layers differ in numbers only, such as block_0 and block_1, share one name. A layer with
    marks in several places is named at the one that takes most time.
    """
    longest = max((part.seconds for part in parts), default=1.0)
    groups: dict[tuple[str, int, int], list[KernelTime]] = {}
    places: dict[tuple[str, int, int], tuple[float, float]] = {}
    # Kernels outside of all layers have no name that a reader knows; they are named where there are no layers.
    for part in [part for part in parts if part.kernel.scope] or parts:
        x, y = part.kernel.flops / part.kernel.moved, part.kernel.flops / part.timing.expected
        key = (re.sub(r"\d+", "*", "/".join(part.kernel.scope)), round(20 * log10(x)), round(20 * log10(y)))
        groups.setdefault(key, []).append(part)
        places.setdefault(key, (x, y))
    figure = axes.figure
    to_points = 72 / figure.dpi
    left, bottom, right, top = (edge * to_points for edge in axes.bbox.extents)
    # The name of the peak stands in the upper right corner.
    taken = [(right - 140, top - 12, right, top)]
    named: set[str] = set()
    ranked = sorted(groups, key=lambda key: -sum(part.seconds for part in groups[key]))
    for key in ranked:
        name = _shared_name(groups[key])
        if name in named or len(named) == _MOST_NAMES:
            continue
        radius = _area(max(part.seconds for part in groups[key]), longest) ** 0.5 / 2
        x, y = axes.transData.transform(places[key]) * to_points
        width, height = 0.62 * _NAME_SIZE * len(name), 1.2 * _NAME_SIZE
        beside, below = radius + 3, -radius - height
        for dx, dy, align in (
            *((beside, -2, "left"), (0, below, "left"), (-beside, -2, "right")),
            *((radius, below, "right"), (0, below - height, "left"), (-beside, radius, "right")),
        ):
            start = x + dx - (width if align == "right" else 0)
            box = (start, y + dy, start + width, y + dy + height)
            inside = left <= box[0] and box[2] <= right and bottom <= box[1] and box[3] <= top
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                named.add(name)
                axes.annotate(
                    _literal(name), places[key], (dx, dy), textcoords="offset points", ha=align, fontsize=_NAME_SIZE
                )
                break


def _shared_name(parts: Sequence[KernelTime]) -> str:
    """Return the last two names of the layer of some marks, with a star for each number that differs."""
    numbered = [re.split(r"(\d+)", "/".join(part.kernel.scope)) for part in parts]
    path = "".join(each[0] if len(set(each)) == 1 else "*" for each in zip(*numbered, strict=True))
    return "/".join(path.split("/")[-2:]) or f"{parts[0].kernel.name:.24}"


def _area(seconds: float, most: float) -> float:
    """Return the area of a mark in square points."""
    return 8 + 250 * seconds / most


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _field(field: str) -> Callable[[Cost], Count]:
    if not isinstance(getattr(Cost, field, None), property):
        raise InputError(
            f"field must be a count of Cost, got {field!r}.",
            why="A plot shows one count.",
            cure="Pass 'flops', 'macs', 'ops' ...",
        )
    return lambda cost: getattr(cost, field)


def _parts(analysis: Analysis, by: str, depth: int | None, of: Callable[[Cost], Count]) -> dict[str, Count]:
    tables: Mapping[str, Callable[[], Mapping[str, Cost]]] = {
        "primitive": analysis.by_primitive,
        "source": analysis.by_source,
        "dtype": analysis.by_dtype,
        "direction": analysis.by_direction,
    }
    if by in tables:
        return {name: of(cost) for name, cost in tables[by]().items() if of(cost)}
    shown = views.merged(analysis)
    deepest = max((len(row.scope) for row in shown.rows), default=1)
    depths: Sequence[int] = [depth] if depth else range(1, max(2, deepest + 1))
    parts: dict[str, Count] = {}
    for cut in depths:
        parts = {name: of(cost) for name, cost in shown.by_scope(cut).items() if of(cost)}
        if len(parts) > 2:
            break
    return parts


def _axes(ax: Any, height: float = 3.6, width: float = 6.4) -> Any:
    if ax is not None:
        return ax
    try:
        # A Figure without pyplot opens no window; it draws to a file or in a notebook.
        figures: Any = import_module("matplotlib.figure")
    except ImportError as error:
        raise ExtraError("matplotlib", "A plot", "plots") from error
    return figures.Figure(figsize=(width, height), layout="constrained").add_subplot()


def _short(field: str) -> Any:
    ticker: Any = import_module("matplotlib.ticker")
    short = units.short_bytes if "bytes" in field else units.short

    def written(value: float, _: int) -> str:
        return short(round(value))

    return ticker.FuncFormatter(written)


def _bare(axes: Any) -> Any:
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _literal(name: str) -> str:
    """Return a name as matplotlib draws it as it is: a dollar sign would begin a formula."""
    return printable(name).replace("$", r"\$")
