"""The command `compare`: several methods, trained with one data set, budget and set of seeds, and tested alike.

A method is a config, or several laid over each other; this package names none of them but in methods.yaml.
"""
