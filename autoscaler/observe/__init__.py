"""Observations of the autoscaler: statuses, recent load, and the snapshot for a decision.

Reading order: use_rates (how often each variant is used) -> status_cache (latest statuses of workers and demands of
selectors) -> load_window (rates of the last seconds) -> backlogs (waiting inputs) -> snapshot_builder (all of these and
the rows of the database as one value).
"""
