"""Ahead of time: compile for a TPU or a GPU on a machine that has neither, in a process of its own."""

from costax.ahead.building import TIMEOUT, Built, build
from costax.ahead.machines import Machine, machine, names

__all__ = ["TIMEOUT", "Built", "Machine", "build", "machine", "names"]
