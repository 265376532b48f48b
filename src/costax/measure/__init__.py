"""Measurements that run the program: time, calibration of a machine, profiles by scope, trip counts."""
