"""Run the program: measured time, calibration, profiles, trip counts."""
