"""Ahead of time: compile for a TPU or a GPU on a machine that has neither, in a process of its own."""

from costax.compare.ahead_of_time.build import TIMEOUT, Built, compile_in_child
from costax.compare.ahead_of_time.machines import Machine, machine, names

__all__ = ["TIMEOUT", "Built", "Machine", "compile_in_child", "machine", "names"]
