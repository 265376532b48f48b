"""Memory: the bytes that are alive while each operation of a program runs, without fusion and with it."""

from costax.performance.memory.compiler import XLA_CPU, XLA_GPU_H100, XLA_TPU_V5E, CompilerModel, compiler_model
from costax.performance.memory.profile import Buffer, MemoryProfile, TimelinePoint, memory_profile
from costax.performance.memory.saved_residuals import Residual, residuals

__all__ = [
    "XLA_CPU",
    "XLA_GPU_H100",
    "XLA_TPU_V5E",
    "Buffer",
    "CompilerModel",
    "MemoryProfile",
    "Residual",
    "TimelinePoint",
    "compiler_model",
    "memory_profile",
    "residuals",
]
