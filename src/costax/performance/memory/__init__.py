"""Memory: what is alive at each moment of a program, without fusion and with it."""

from costax.performance.memory.memory_profile import Account, Buffer, Moment, account
from costax.performance.memory.residuals import Residual, residuals

__all__ = ["Account", "Buffer", "Moment", "Residual", "account", "residuals"]
