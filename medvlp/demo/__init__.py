"""The commands `demo` and `bench`: the whole way on synthetic data, and speeds beside their floors.

Nothing imports from here.
"""
