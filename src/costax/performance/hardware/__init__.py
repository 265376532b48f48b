"""Hardware: peaks, memory, links and power of devices, each number with its source. Imports neither jax nor numpy."""

from costax.performance.hardware.device import Device, Figure, Link
from costax.performance.hardware.library import device, devices, read, user_folder

__all__ = ["Device", "Figure", "Link", "device", "devices", "read", "user_folder"]
