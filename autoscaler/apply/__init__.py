"""Execution of decisions: writes the plan's rows in one transaction, and reconciles workers with them.

Reading order: plan_writer (rows and reasons of a plan, partitions of topics) -> reconcile_plan (pure: workers to start,
drain or stop) -> step_scheduler (pure: steps of that plan that are due, with back-off) -> worker_reconciler (takes
them) -> background_solver (runs the solver in a thread, for later decisions).
"""
