"""Fuzzing: sends generated requests to every route of a gateway, and checks its answers against its OpenAPI document.

Reading order: http_fuzzing (requests made from the document) -> mutations, mutating (valid requests with an error
inserted) -> __main__ (with a system of its own).
"""
