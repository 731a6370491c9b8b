"""Delays of statuses, read from the metrics of a selector."""

from math import inf

import pytest

from bench.scale.cluster import bucket_percentile, delay_counts

_METRICS = """\
# HELP infaas_selector_status_delay_seconds Delay
# TYPE infaas_selector_status_delay_seconds histogram
infaas_selector_status_delay_seconds_bucket{le="0.01"} 60.0
infaas_selector_status_delay_seconds_bucket{le="0.02"} 90.0
infaas_selector_status_delay_seconds_bucket{le="+Inf"} 100.0
infaas_selector_status_delay_seconds_count 100.0
infaas_selector_status_delay_seconds_sum 1.0
"""


def test_delay_counts_are_those_of_each_bucket() -> None:
    assert delay_counts(_METRICS) == {0.01: 60, 0.02: 30, inf: 10}


@pytest.mark.parametrize(("share", "value"), [(0.3, 0.005), (0.75, 0.015), (0.9, 0.02), (0.99, 0.02), (0.0, 0.0)])
def test_bucket_percentile_interpolates_in_a_bucket(share: float, value: float) -> None:
    assert bucket_percentile(delay_counts(_METRICS), share) == pytest.approx(value)


def test_bucket_percentile_skips_empty_buckets() -> None:
    assert bucket_percentile({0.01: 0, 0.02: 0, 0.05: 4}, 0.5) == pytest.approx(0.035)
