"""Throws generated requests at every route of a gateway, and holds its answers against what it publishes.

Reading order: http_fuzzing (requests made from the document) -> mutations, mutating (requests that a model takes, with
something wrong) -> __main__ (against a system of its own).
"""
