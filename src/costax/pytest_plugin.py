"""The pytest plug-in: the fixture `cost`, the marker `cost_budget`, and golden records.

    def test_the_encoder_stays_small(cost):
        cost(encode)(params, costax.spec("f32[1,224,224,3]")).check(flops="4 GFLOP", uncounted=0)

`pytest --costax` ends with a table of the counted programs; `--costax-update` writes the golden records again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

if TYPE_CHECKING:
    from costax.analysis.analysis import Analysis

# pytest loads this module in every run: parts of costax that import jax are imported only when a test uses them.

_PROPERTY: Final = "costax"
_UPDATE: Final = "costax_update"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --costax and --costax-update."""
    group = parser.getgroup("costax")
    group.addoption("--costax", action="store_true", help="End with a table of the programs that the tests counted.")
    group.addoption(
        "--costax-update", dest=_UPDATE, action="store_true", help="Write the golden records of cost.snapshot again."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker `cost_budget`."""
    config.addinivalue_line(
        "markers", "cost_budget(flops=..., peak_bytes=..., ...): limits of every program that the test counts"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test with the marker `cost_budget` but without the fixture `cost`: the budget would not be checked."""
    if item.get_closest_marker("cost_budget") and "cost" not in getattr(item, "fixturenames", ()):
        pytest.fail(
            "This test has the marker cost_budget but does not use the fixture `cost`, so that its budget would not be"
            " checked. Add `cost` to the arguments of the test, or remove the marker.",
            pytrace=False,
        )


class Costs:
    """The fixture `cost`: `cost(fn)(*args)` counts, and `cost.snapshot(name)` compares with a golden record."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        """Take the request of the test."""
        self._request = request
        self._last: Analysis | None = None

    def __call__(self, fn: Any, **options: Any) -> Callable[..., Analysis]:
        """Return a function that takes the arguments of `fn` and returns the Analysis; the options are `analyze`'s.

        It checks the limits of the test's marker `cost_budget`, and raises BudgetError if one is exceeded.
        """
        from costax.analysis.analyze import analyze

        # Untyped, because the caller's options are: `analyze` checks them.
        counting: Callable[..., Analysis] = cast(Any, analyze)(fn, **options)

        def call(*args: Any, **kwargs: Any) -> Analysis:
            __tracebackhide__ = True
            analysis = self._last = counting(*args, **kwargs)
            for marker in self._request.node.iter_markers("cost_budget"):
                analysis.check(**marker.kwargs)
            total, node = analysis.total, self._request.node
            counts = {"name": analysis.name, "macs": total.macs, "flops": total.flops, "bytes": total.bytes_unfused}
            node.user_properties.append((_PROPERTY, counts))
            return analysis

        return call

    def snapshot(self, name: str, analysis: Analysis | None = None, *, fail_on: str | tuple[str, ...] = ()) -> None:
        """Compare an analysis, by default the last of this test, with its golden record beside the test file.

        fail_on: thresholds such as `flops > +1%`; by default any change fails. Raises BudgetError with the differences
        by layer.
        """
        __tracebackhide__ = True
        from costax.report.golden import compare_with_golden

        compared = self._last if analysis is None else analysis
        if compared is None:
            pytest.fail(
                "cost.snapshot has no analysis to compare. Call cost(fn)(*args) before, or pass an analysis.",
                pytrace=False,
            )
        thresholds = (fail_on,) if isinstance(fail_on, str) else fail_on
        folder = self._request.path.parent / "costax_snapshots"
        update = bool(self._request.config.getoption(_UPDATE))
        compare_with_golden(compared, folder, name, thresholds, update=update)


@pytest.fixture
def cost(request: pytest.FixtureRequest) -> Costs:
    """Count the cost of a program: `cost(fn)(*args).check(flops="4 GFLOP")`, `cost.snapshot("resnet18")`."""
    return Costs(request)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table of --costax."""
    if not config.getoption("costax"):
        return
    counted = [
        (report.nodeid, counts)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for key, counts in report.user_properties
        if key == _PROPERTY
    ]
    from costax.core import units

    terminalreporter.section("costs")
    if not counted:
        terminalreporter.write_line("No test counted a program. Use the fixture `cost`: cost(fn)(*args).")
        return
    lines = [("program", "MACs", "FLOPs", "traffic", "test")]
    for test, counts in sorted(counted, key=lambda entry: -entry[1]["flops"]):
        sizes = units.short(counts["macs"]), units.short(counts["flops"]), units.short_bytes(counts["bytes"])
        lines.append((counts["name"], *sizes, test))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for name, *sizes, test in lines:
        cells = "  ".join(size.rjust(width) for size, width in zip(sizes, widths[1:4], strict=True))
        terminalreporter.write_line(f"{name.ljust(widths[0])}  {cells}  {test}")
