"""Hardware: peaks, memory, links and power of devices, each number with its source. Imports neither jax nor numpy."""

from costax.performance.hardware.library import device, devices, read, user_folder
from costax.performance.hardware.specification import CompilerFacts, Device, Figure, Link, Network

__all__ = ["CompilerFacts", "Device", "Figure", "Link", "Network", "device", "devices", "read", "user_folder"]
