"""The commands `benchmark` and `results`: many runs of experiments' configs, and their tables.

A benchmark itself is a YAML file under experiments/; nothing here knows a single one.
"""
