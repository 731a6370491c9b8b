"""Launchers, which start and stop workers: one module per platform.

Reading order: base (interface) -> registry (launchers by name) -> null (none), processes (of this machine) ->
worker_template (configured size of a cluster's workers) -> kubernetes, ray.
"""
