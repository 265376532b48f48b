"""Sweeps: a program analysed at every point of a grid, by several processes."""
