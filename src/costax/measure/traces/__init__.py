"""Traces of profilers as events of HLO instructions: xplane, Chrome JSON, nsys-jax, and tables of seconds."""

from costax.measure.traces.files import read_traces
from costax.measure.traces.records import Event, ModuleRun, Trace

__all__ = ["Event", "ModuleRun", "Trace", "read_traces"]
