"""How fast and how large: kernels, roofline, memory, hardware, prediction, energy."""
