"""Simulated cost of stale views: violations by the number of selectors and workers, and the mechanisms against them.

Reading order: mechanisms -> cell (one simulation) -> page -> __main__ (runs all, and writes docs/selectors.md).
"""
