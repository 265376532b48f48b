"""Ahead-of-time compilation for a TPU or GPU that need not be present, in a child process."""

from costax.compare.ahead_of_time.build import TIMEOUT, Built, compile_in_child
from costax.compare.ahead_of_time.machines import Machine, machine, names, of_size

__all__ = ["TIMEOUT", "Built", "Machine", "compile_in_child", "machine", "names", "of_size"]
