"""Tests of the counts of event loop delays from the metrics of services."""

from collections import Counter

import pytest

from bench.latency.tail import delay_counts, long_shares

METRICS = """\
# HELP infaas_event_loop_delay_seconds Delay
# TYPE infaas_event_loop_delay_seconds histogram
infaas_event_loop_delay_seconds_bucket{cause="core",le="0.005"} 90.0
infaas_event_loop_delay_seconds_bucket{cause="core",le="0.01"} 95.0
infaas_event_loop_delay_seconds_bucket{cause="core",le="+Inf"} 98.0
infaas_event_loop_delay_seconds_count{cause="core"} 98.0
infaas_event_loop_delay_seconds_sum{cause="core"} 0.5
infaas_event_loop_delay_seconds_bucket{cause="collector",le="0.01"} 1.0
infaas_event_loop_delay_seconds_bucket{cause="collector",le="+Inf"} 2.0
infaas_event_loop_delay_seconds_count{cause="collector"} 2.0
infaas_event_loop_delay_seconds_sum{cause="collector"} 0.02
# HELP infaas_other_total Other
# TYPE infaas_other_total counter
infaas_other_total 7.0
"""


def test_long_shares_are_of_all_samples_of_a_service() -> None:
    counts = delay_counts("gateway", METRICS)
    assert counts["gateway", "core", "long"] == 3
    assert long_shares(counts) == {"gateway": {"core": pytest.approx(0.03), "collector": pytest.approx(0.01)}}


def test_long_shares_are_of_the_samples_since_the_first_reading() -> None:
    counts, before = delay_counts("gateway", METRICS), delay_counts("gateway", METRICS)
    counts.update(Counter({("gateway", "core", "all"): 50, ("gateway", "core", "long"): 5}))
    counts.subtract(before)
    assert long_shares(counts) == {"gateway": {"core": pytest.approx(0.1), "collector": 0.0}}
