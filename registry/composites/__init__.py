"""Composites: variants that are registered already, made into variants of their own.

Reading order: calibration (which threshold gives which accuracy) -> proposals (which cascades are worth having) ->
labelled_rows (what calibrates and what measures) -> stage_records (what the stages answer) -> measuring (from a
document to a variant that is ready) -> cascades (the registration) -> proposing (which to register).
"""
