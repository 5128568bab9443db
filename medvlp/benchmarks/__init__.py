"""Benchmarks: a pre-trained encoder under label fractions and seeds, and its results beside the published ones."""
