"""The commands `demo` and `bench`: the full workflow on synthetic data, and speeds relative to lower bounds.

No other package imports from here.
"""
