"""Memory: what is alive at each moment of a program, without fusion and with it."""

from costax.performance.memory.profile import Buffer, MemoryProfile, TimelinePoint, memory_profile
from costax.performance.memory.saved_residuals import Residual, residuals

__all__ = ["Buffer", "MemoryProfile", "Residual", "TimelinePoint", "memory_profile", "residuals"]
