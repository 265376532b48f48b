"""Memory: the bytes that are alive while each operation of a program runs, without fusion and with it."""

from costax.performance.memory.profile import Buffer, MemoryProfile, TimelinePoint, memory_profile
from costax.performance.memory.saved_residuals import Residual, residuals

__all__ = ["Buffer", "MemoryProfile", "Residual", "TimelinePoint", "memory_profile", "residuals"]
