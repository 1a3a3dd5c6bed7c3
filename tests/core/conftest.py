"""Hypothesis: the same examples every time, and no deadline on a busy machine."""

from hypothesis import settings

settings.register_profile("commandstore", deadline=None, derandomize=True, database=None)
settings.load_profile("commandstore")
