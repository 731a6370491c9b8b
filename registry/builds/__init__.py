"""Builds: steps of a registration that are requested over Kafka and executed by workers of their hardware type.

Reading order: build_files (files of a step, named by content) -> build (request, report and outcome) -> presence
(workers that execute builds) -> remote_steps (requests a build and waits for it) -> open_executor (remote or local).
Workers execute builds in `workers.builder`.
"""
