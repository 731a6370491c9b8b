"""Simulated services around the production decisions.

Reading order: gateway -> selector -> rows, launcher (Postgres and processes, for the autoscaler) -> autoscaler ->
infaas (all of them together).
"""
