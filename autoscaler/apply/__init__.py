"""How a decision is carried out: rows in one transaction, and workers started and stopped towards them.

Reading order: plan_writer (rows and reasons of a plan) -> topic_growth (partitions for more replicas and selectors) ->
reconcile_plan (pure: which worker to start, drain or stop) -> worker_reconciler (does it, with retries) ->
background_solver (runs the solver in a thread, for the next decisions).
"""
