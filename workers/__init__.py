"""Runs models: one process per device, which computes the queries of the variants placed on it.

Reading order: settings -> model -> instance (the way of a query, top to bottom) with request, batching and health
(pure), device, journal, backlog and metrics -> lease -> hosting -> placement -> status -> service.
"""
