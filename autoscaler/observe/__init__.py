"""What the autoscaler sees: statuses, recent load, and the snapshot that a decision is made from.

Reading order: use_rates (how often each variant is used) -> status_cache (the latest that workers and selectors said)
-> load_window (rates of the last seconds) -> backlogs (what waits, in inputs) -> snapshot_builder (all of it, with the
rows of the database, as one value).
"""
