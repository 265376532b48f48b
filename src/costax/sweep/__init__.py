"""Sweeps: a program analysed at every point of a grid, on as many processes as there are."""
