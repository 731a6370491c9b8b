"""Shared parts of all benches: figures, programs, databases, a system under test, and the baseline program.

Reading order: figures (a value beside its baseline) -> rounds (repeated, with the machine's speed) -> bracket (the
search for the goodput) -> programs (run to their end, or while a context is open) -> database (a Postgres of its own,
with synthetic rows) -> system (a whole system, as a user starts it) -> baseline (the bare program).
"""
