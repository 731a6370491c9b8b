"""Shared parts of all benches: figures, load, a system under test, and the baseline program.

Reading order: figures (a value beside its baseline) -> load (queries at a fixed rate) -> programs (run to their end) ->
system (a whole system, as a user starts it) -> baseline (the bare program).
"""
