"""Runs models: one process per device, which computes the queries of the variants placed on it.

Reading order: settings -> model -> request -> batching, health (pure) -> device -> journal -> outbox -> instance ->
lease -> hosting -> placement -> answers, metrics, status (what it tells of itself) -> service -> command, __main__.
"""
