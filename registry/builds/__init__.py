"""Builds: steps of a registration that are requested over Kafka and executed by workers of their hardware type.

Reading order: build (request, report, outcome and files) -> remote_steps (requests a build and waits for it) ->
open_executor (remote or local). Workers execute builds in `workers.builder`.
"""
