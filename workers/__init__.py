"""Runs models: one process per device, which computes the queries of the variants placed on it.

Reading order: settings -> model -> instance (the way of a query, top to bottom) -> request -> batching, health (pure)
-> device, journal, backlog, metrics -> lease -> hosting -> placement -> status -> service -> command, __main__.
"""
