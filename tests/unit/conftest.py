"""Hypothesis on a machine that is busy with other things: examples have no deadline of their own."""

from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")
