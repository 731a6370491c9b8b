"""Composites: variants that are made of registered variants, as cascades or chains.

Reading order: calibration (accuracy of a cascade by threshold, on labelled rows) -> stage_records (finds stages and
computes their outputs) -> measuring (measures and registers a composite's variants) -> cascades, chains (the
registrations) -> proposals (cascades worth registering).
"""
