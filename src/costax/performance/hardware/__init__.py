"""Hardware: peaks, memory, links and power of devices, each number with its source. Imports neither jax nor numpy."""

from costax.performance.hardware.library import device, devices, read, user_folder
from costax.performance.hardware.slices import Slice, slice_of
from costax.performance.hardware.specification import CompilerFacts, Device, Figure, Link, Network

__all__ = [
    "CompilerFacts",
    "Device",
    "Figure",
    "Link",
    "Network",
    "Slice",
    "device",
    "devices",
    "read",
    "slice_of",
    "user_folder",
]
