"""The commands `benchmark` and `results`: runs of the configs in experiments/, and tables of their results.

A benchmark is a YAML file under experiments/; this package names none of them.
"""
