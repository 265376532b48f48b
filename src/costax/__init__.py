"""costax: where the arithmetic and the bytes of a JAX program go, checked against XLA."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from costax.analysis import Analysis as Analysis
    from costax.api import UncountedWarning as UncountedWarning
    from costax.api import analyze as analyze
    from costax.api import compare as compare
    from costax.api import rules as rules
    from costax.budgets import Budget as Budget
    from costax.budgets import budget as budget
    from costax.calibration import calibrate as calibrate
    from costax.comparison import Comparison as Comparison
    from costax.cost import Cost as Cost
    from costax.difference import Diff as Diff
    from costax.difference import diff as diff
    from costax.equation import Body as Body
    from costax.equation import Equation as Equation
    from costax.equation import Operand as Operand
    from costax.errors import Uncountable as Uncountable
    from costax.explanation import explain as explain
    from costax.fitting import Fit as Fit
    from costax.fitting import fits as fits
    from costax.hardware import Device as Device
    from costax.hardware import device as device
    from costax.hardware import devices as devices
    from costax.measurement import Measurement as Measurement
    from costax.measurement import measure as measure
    from costax.modules import ModuleAnalysis as ModuleAnalysis
    from costax.policies import saved_by_policy as saved_by_policy
    from costax.polynomial import Polynomial as Polynomial
    from costax.prediction import Prediction as Prediction
    from costax.prediction import predict as predict
    from costax.registry import body_rule as body_rule
    from costax.registry import cost_rule as cost_rule
    from costax.report import load as load
    from costax.report.plots import plot_scaling as plot_scaling
    from costax.shapes import spec as spec
    from costax.sweeps.results import Sweep as Sweep
    from costax.sweeps.runner import sweep as sweep
    from costax.trace import Target as Target
    from costax.trips import count_trips as count_trips

# jax takes most of a second to import, and `costax --help` needs none of it: names are found when they are asked for.
_HOMES = {
    "Analysis": "analysis",
    "Body": "equation",
    "Budget": "budgets",
    "Comparison": "comparison",
    "Cost": "cost",
    "Diff": "difference",
    "Equation": "equation",
    "ModuleAnalysis": "modules",
    "Operand": "equation",
    "Polynomial": "polynomial",
    "Sweep": "sweeps.results",
    "Target": "trace",
    "Uncountable": "errors",
    "UncountedWarning": "api",
    "analyze": "api",
    "body_rule": "registry",
    "budget": "budgets",
    "compare": "api",
    "cost_rule": "registry",
    "diff": "difference",
    "Device": "hardware",
    "Measurement": "measurement",
    "Prediction": "prediction",
    "device": "hardware",
    "devices": "hardware",
    "Fit": "fitting",
    "fits": "fitting",
    "calibrate": "calibration",
    "count_trips": "trips",
    "explain": "explanation",
    "load": "report",
    "measure": "measurement",
    "predict": "prediction",
    "plot_scaling": "report.plots",
    "saved_by_policy": "policies",
    "rules": "api",
    "spec": "shapes",
    "sweep": "sweeps.runner",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'costax' has no attribute {name!r}")
    return getattr(import_module(f"costax.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
