"""Composites: variants that are made of registered variants, as cascades or chains.

Reading order: calibration (accuracy of a cascade by threshold) -> proposals (cascades worth registering) -> wiring
(connects outputs to inputs) -> labelled_rows (rows that calibrate and rows that measure) -> stage_records (finds stages
and computes their outputs) -> measuring (measures and registers a composite's variants) -> cascades, chains (the
registrations) -> proposing (finds cascades for a task).
"""
