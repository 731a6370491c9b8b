"""Composites: variants that are registered already, made into variants of their own.

Reading order: calibration (which threshold gives which accuracy) -> proposals (which cascades are worth having) ->
wiring (what may feed what) -> labelled_rows (what calibrates and what measures) -> stage_records (what is known of the
stages) -> measuring (from a document to a variant that is ready) -> cascades, chains (the registrations) -> proposing
(which cascades to register).
"""
