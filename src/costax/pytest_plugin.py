"""The pytest plug-in: the fixture `cost`, the marker `cost_budget`, golden records.

    def test_the_encoder_stays_small(cost):
        cost(encode)(params, costax.spec("f32[1,224,224,3]")).check(flops="4 GFLOP", uncounted=0)

`pytest --costax` ends with a table of what the tests counted; `--costax-update` writes the golden records anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from costax.analysis.analysis import Analysis

# Nothing of costax that imports jax is imported before a test asks: pytest loads plug-ins in every run.

_PROPERTY: Final = "costax"
_UPDATE: Final = "costax_update"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --costax and --costax-update."""
    group = parser.getgroup("costax")
    group.addoption("--costax", action="store_true", help="End with a table of the costs that the tests counted.")
    group.addoption(
        "--costax-update", dest=_UPDATE, action="store_true", help="Write the golden records of cost.snapshot anew."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "cost_budget(flops=..., peak_bytes=..., ...): limits of every program that the test counts"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a budget that nothing would check."""
    if item.get_closest_marker("cost_budget") and "cost" not in getattr(item, "fixturenames", ()):
        pytest.fail("cost_budget checks what the fixture `cost` counts, and this test does not use it.", pytrace=False)


class Costs:
    """What the fixture `cost` is: `cost(fn)(*args)` counts, `cost.snapshot(name)` compares with a golden record."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        """Take the test that asks."""
        self._request = request
        self._last: Analysis | None = None

    def __call__(self, fn: Any, **options: Any) -> Callable[..., Analysis]:
        """Return a function that takes the arguments of `fn` and returns its Analysis; `costax.analyze` as it is.

        The limits of the test's marker are checked at once.
        """
        from costax.analysis import analyze

        # Its options are the caller's, and checked there.
        analyze: Any = analyze.analyze
        counting: Callable[..., Analysis] = analyze(fn, **options)

        def call(*args: Any, **kwargs: Any) -> Analysis:
            __tracebackhide__ = True
            analysis = self._last = counting(*args, **kwargs)
            for marker in self._request.node.iter_markers("cost_budget"):
                analysis.check(**marker.kwargs)
            total, node = analysis.total, self._request.node
            found = {"name": analysis.name, "macs": total.macs, "flops": total.flops, "bytes": total.bytes_unfused}
            node.user_properties.append((_PROPERTY, found))
            return analysis

        return call

    def snapshot(self, name: str, analysis: Analysis | None = None, *, fail_on: str | tuple[str, ...] = ()) -> None:
        """Compare an analysis, by default the last one counted, with its golden record beside the test file.

        fail_on: what fails, as `flops > +1%`; by default any change. Raises BudgetError with a difference by layer.
        """
        __tracebackhide__ = True
        from costax.report.golden import compare_with_golden

        found = self._last if analysis is None else analysis
        if found is None:
            pytest.fail("cost.snapshot has nothing to compare: count first, cost(fn)(*args).", pytrace=False)
        conditions = (fail_on,) if isinstance(fail_on, str) else fail_on
        folder = self._request.path.parent / "costax_snapshots"
        update = bool(self._request.config.getoption(_UPDATE))
        compare_with_golden(found, folder, name, conditions, update=update)


@pytest.fixture
def cost(request: pytest.FixtureRequest) -> Costs:
    """Count what a program costs: `cost(fn)(*args).check(flops="4 GFLOP")`, `cost.snapshot("resnet18")`."""
    return Costs(request)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table of --costax."""
    if not config.getoption("costax"):
        return
    counted = [
        (report.nodeid, found)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for key, found in report.user_properties
        if key == _PROPERTY
    ]
    from costax.core import units

    terminalreporter.section("costs")
    if not counted:
        terminalreporter.write_line("No test counted anything: use the fixture `cost`.")
        return
    lines = [("program", "MACs", "FLOPs", "traffic", "test")]
    for test, found in sorted(counted, key=lambda entry: -entry[1]["flops"]):
        sizes = units.short(found["macs"]), units.short(found["flops"]), units.short_bytes(found["bytes"])
        lines.append((found["name"], *sizes, test))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for name, *sizes, test in lines:
        cells = "  ".join(size.rjust(width) for size, width in zip(sizes, widths[1:4], strict=True))
        terminalreporter.write_line(f"{name.ljust(widths[0])}  {cells}  {test}")
