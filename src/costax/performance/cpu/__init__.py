"""Time on a calibrated CPU: kernels as steps, and the measured rates of the steps."""
