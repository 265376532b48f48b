"""Hardware: what devices can do, every number with its source. Neither jax nor numpy is imported here."""

from costax.performance.hardware.device import Device, Figure, Link
from costax.performance.hardware.library import device, devices, read, user_folder

__all__ = ["Device", "Figure", "Link", "device", "devices", "read", "user_folder"]
