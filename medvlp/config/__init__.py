"""Configs and command lines: how they are found, parsed, ordered and guarded.

Nothing here knows a task, a data set or a model.
"""
