"""Runs models: one process per device, which computes the queries of the variants placed on it.

Reading order: settings -> model -> request -> batching and health (pure) -> device -> journal -> outbox -> instance ->
lease -> hosting -> placement -> status -> service.
"""
