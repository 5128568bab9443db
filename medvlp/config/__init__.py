"""Configs and command lines: finding, parsing, ordering and guarding them.

Nothing here depends on a task, a data set or a model.
"""
