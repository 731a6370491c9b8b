"""Observations of the autoscaler: statuses, recent load, and the snapshot for a decision.

Reading order: status_cache (latest statuses of workers, demands of selectors, and use of variants) -> load_window
(rates of the last seconds) -> snapshot_builder (all of these, waiting inputs and the rows of the database as one
value).
"""
