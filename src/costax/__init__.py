"""costax: where the arithmetic and the bytes of a JAX program go, checked against XLA."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from costax.core.display import report_with

if TYPE_CHECKING:
    __version__: str

    from costax._jax.spec import spec as spec
    from costax.analysis.analysis import Analysis as Analysis
    from costax.analysis.analyze import UncountedWarning as UncountedWarning
    from costax.analysis.analyze import analyze as analyze
    from costax.analysis.analyze import rules as rules
    from costax.analysis.budgets import Budget as Budget
    from costax.analysis.checkpoint_policies import saved_by_policy as saved_by_policy
    from costax.analysis.compiled_module import CompiledModule as CompiledModule
    from costax.analysis.decorators import budget as budget
    from costax.analysis.diff import Diff as Diff
    from costax.analysis.diff import diff as diff
    from costax.analysis.explain import explain as explain
    from costax.analysis.kernel_estimates import cost_estimate as cost_estimate
    from costax.analysis.kernel_estimates import with_cost_estimates as with_cost_estimates
    from costax.analysis.other_tools.conventions import Answer as Answer
    from costax.analysis.other_tools.conventions import Reason as Reason
    from costax.analysis.utilisation import Utilisation as Utilisation
    from costax.compare.compare import compare as compare
    from costax.compare.comparison import Comparison as Comparison
    from costax.compare.passes import PassTrail as PassTrail
    from costax.compare.passes import read_passes as read_passes
    from costax.core.cost import Cost as Cost
    from costax.core.equation import Body as Body
    from costax.core.equation import Equation as Equation
    from costax.core.equation import Operand as Operand
    from costax.core.polynomial import Polynomial as Polynomial
    from costax.errors import CostaxError as CostaxError
    from costax.errors import Uncountable as Uncountable
    from costax.hlo.module_analysis import ModuleAnalysis as ModuleAnalysis
    from costax.measure.calibration import calibrate as calibrate
    from costax.measure.join.join import join as join
    from costax.measure.join.result import Join as Join
    from costax.measure.measurement import Measurement as Measurement
    from costax.measure.measurement import measure as measure
    from costax.measure.meter import Meter as Meter
    from costax.measure.meter import Reading as Reading
    from costax.measure.meter import meter as meter
    from costax.measure.trip_counts import count_trips as count_trips
    from costax.performance.fit import Fit as Fit
    from costax.performance.fit import fits as fits
    from costax.performance.hardware import Device as Device
    from costax.performance.hardware import device as device
    from costax.performance.hardware import devices as devices
    from costax.performance.prediction import Prediction as Prediction
    from costax.performance.prediction import predict as predict
    from costax.program.frameworks.pytorch import from_torch as from_torch
    from costax.program.trace import Target as Target
    from costax.report import load as load
    from costax.report.plots import plot_scaling as plot_scaling
    from costax.rules.registry import body_rule as body_rule
    from costax.rules.registry import cost_rule as cost_rule
    from costax.rules.traits import Traits as Traits
    from costax.sweep.results import Sweep as Sweep
    from costax.sweep.runner import sweep as sweep

# jax takes most of a second to import, and `costax --help` needs none of it: names are found when they are asked for.
_HOMES = {
    "Answer": "analysis.other_tools.conventions",
    "Reason": "analysis.other_tools.conventions",
    "Analysis": "analysis.analysis",
    "Body": "core.equation",
    "Budget": "analysis.budgets",
    "Comparison": "compare.comparison",
    "CompiledModule": "analysis.compiled_module",
    "Cost": "core.cost",
    "CostaxError": "errors",
    "Diff": "analysis.diff",
    "Equation": "core.equation",
    "ModuleAnalysis": "hlo.module_analysis",
    "Operand": "core.equation",
    "PassTrail": "compare.passes",
    "Polynomial": "core.polynomial",
    "Sweep": "sweep.results",
    "Target": "program.trace",
    "Traits": "rules.traits",
    "Uncountable": "errors",
    "UncountedWarning": "analysis.analyze",
    "Utilisation": "analysis.utilisation",
    "analyze": "analysis.analyze",
    "body_rule": "rules.registry",
    "budget": "analysis.decorators",
    "compare": "compare.compare",
    "cost_estimate": "analysis.kernel_estimates",
    "with_cost_estimates": "analysis.kernel_estimates",
    "cost_rule": "rules.registry",
    "diff": "analysis.diff",
    "Device": "performance.hardware",
    "Measurement": "measure.measurement",
    "Meter": "measure.meter",
    "Reading": "measure.meter",
    "meter": "measure.meter",
    "Prediction": "performance.prediction",
    "device": "performance.hardware",
    "devices": "performance.hardware",
    "Fit": "performance.fit",
    "fits": "performance.fit",
    "from_torch": "program.frameworks.pytorch",
    "calibrate": "measure.calibration",
    "count_trips": "measure.trip_counts",
    "explain": "analysis.explain",
    "Join": "measure.join.result",
    "join": "measure.join.join",
    "load": "report",
    "measure": "measure.measurement",
    "predict": "performance.prediction",
    "plot_scaling": "report.plots",
    "saved_by_policy": "analysis.checkpoint_policies",
    "read_passes": "compare.passes",
    "rules": "analysis.analyze",
    "spec": "_jax.spec",
    "sweep": "sweep.runner",
}

# Imported when the first value is shown.
report_with("costax.report")

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name == "__version__":
        from importlib.metadata import version

        return version("costax")
    if name not in _HOMES:
        raise AttributeError(f"module 'costax' has no attribute {name!r}")
    return getattr(import_module(f"costax.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__


class _Package(ModuleType):
    """This module, in which a public function wins over the package of the same name.

    Importing `costax.compare.comparison` makes Python set the attribute `compare` of this module to the package
    `costax.compare`. `costax.compare(fn)` must go on working, so that assignment is dropped for public names. Packages
    are still imported in full: `from costax.compare.comparison import Comparison`.
    """

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute, unless it is a subpackage that would hide a public function."""
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
