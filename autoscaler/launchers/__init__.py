"""Launchers, which start and stop workers: one module per platform.

Reading order: base (interface, configured size of a cluster's workers) -> registry (launchers by name, and none) ->
processes (of this machine), kubernetes, ray.
"""
