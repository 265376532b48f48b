"""Efficiency by size: models of kernels whose constants were fitted to tables that others measured."""
