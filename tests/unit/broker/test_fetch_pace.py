"""Tests of `FetchPace`: an idle reader lets the broker hold its fetches longer, until records arrive."""

from broker.fetch_pace import FetchPace
from broker.settings import KafkaSettings

SETTINGS = KafkaSettings(fetch_max_wait_ms=10)


def test_fetch_pace_waits_longer_until_first_record() -> None:
    pace = FetchPace(SETTINGS, factor=30)
    assert [pace.wait_ms(at) for at in (100.0, 101.9, 102.0, 500.0)] == [10, 10, 300, 300]
    pace.found(500.1)
    assert [pace.wait_ms(at) for at in (500.1, 502.0, 502.2)] == [10, 10, 300]


def test_lazy_fetch_pace_shortens_for_successive_records() -> None:
    pace = FetchPace(SETTINGS, lazy=True)
    assert [pace.wait_ms(at) for at in (100.0, 100.3)] == [10, 200]
    pace.found(101.0)
    assert pace.wait_ms(101.0) == 200
    pace.found(101.1)
    assert pace.wait_ms(101.1) == 10


def test_fetch_pace_stays_within_request_timeout() -> None:
    settings = KafkaSettings(fetch_max_wait_ms=500, request_timeout_ms=2_000)
    assert FetchPace(settings).long_ms == 1_000
    assert FetchPace(settings, longest_ms=100).long_ms == 500


def test_fetch_pace_is_short_if_broker_wakes_no_fetch() -> None:
    assert FetchPace(KafkaSettings(), wakes=False).wait_ms(100.0) == 10
    assert FetchPace(KafkaSettings(), wakes=True).wait_ms(100.0) == 500
    assert FetchPace(KafkaSettings(fetch_max_wait_ms=70), wakes=False).wait_ms(100.0) == 70
