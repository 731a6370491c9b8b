"""Tests of the outcomes of queries as users see them."""

import pytest

from bench.scale.traffic import QuerySample
from schemas.errors import DeadlineExceeded, Overloaded
from simulator.trace import QueryKind


@pytest.mark.parametrize(
    ("status", "total_ms", "outcome"),
    [
        ("ok", 100.0, "answered"),
        ("ok", 100.1, "late"),
        (DeadlineExceeded.code, 50.0, "late"),
        (Overloaded.code, 5.0, "refused"),
        ("lost", 30e3, "lost"),
    ],
)
def test_outcome_of_query(status: str, total_ms: float, outcome: str) -> None:
    sample = QuerySample(QueryKind(task="digits", latency_ms=100.0), due_s=0.0, total_ms=total_ms, status=status)
    assert (sample.outcome, sample.violated) == (outcome, outcome != "answered")
