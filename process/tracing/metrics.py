"""Counts of spans for Prometheus."""

from typing import Final

from prometheus_client import Counter

DROPPED: Final = Counter("infaas_spans_dropped_total", "Spans, or traces of a process, that were dropped", ["reason"])
EXPORTED: Final = Counter("infaas_spans_exported_total", "Spans that the receiver has accepted")
LIMITED: Final = DROPPED.labels("limit")
"""Queries traced by others that this process leaves out, beyond `INFAAS_TRACES_PER_S`."""
QUEUE_FULL: Final = DROPPED.labels("queue full")
NOT_ACCEPTED: Final = DROPPED.labels("not accepted")
"""Spans that the receiver refused, or did not accept in time."""
