"""Traces of sampled queries by OpenTelemetry, off by default: without `OTEL_TRACES_EXPORTER=otlp` nothing is imported.

Call sites hold a `Tracer` or None, and make spans from times that they measure anyway. See docs/tracing.md for the
spans, and docs/explanation/tracing.md for the reasons.

Reading order: settings (`OTEL_*`) -> sampling (pure) -> conventions (names), metrics -> export (bounded, counted) ->
tracer.
"""
