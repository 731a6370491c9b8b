"""Launchers, which start and stop workers: one module per platform.

Reading order: launched_worker (a worker's process and its state) -> base (interface, configured size of a cluster's
workers) -> registry (launchers by name, and none) -> processes (of this machine), kubernetes, ray.
"""
