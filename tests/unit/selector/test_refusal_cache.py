"""Only queries similar to one just refused are refused from the cache, and only for some milliseconds."""

import msgspec
import pytest

from schemas.errors import Overloaded
from schemas.query import Query
from selector.choice import Choice, PolicyConfig, Refusal
from selector.overload import LoadShedder
from selector.refusal_cache import RefusalCache
from tests.unit.selector.story import FAST, NOW, instance, query, registered, state_of, status

LATENCY_MS = 200.0
REFUSAL = Refusal(Overloaded())


def asked(after_s: float = 0.0, latency_ms: float | None = LATENCY_MS, tenant: str | None = None) -> Query:
    return msgspec.structs.replace(query(sent=NOW + after_s, latency_ms=latency_ms), tenant=tenant)


def refused() -> RefusalCache:
    cache = RefusalCache()
    cache.keep(asked(), REFUSAL, NOW)
    return cache


def test_refusal_cache_finds_similar_query() -> None:
    assert refused().find(asked(0.001), NOW + 0.001) is REFUSAL


@pytest.mark.parametrize(
    "found",
    [
        query(sent=NOW, latency_ms=LATENCY_MS, batch=2),
        query(sent=NOW, latency_ms=LATENCY_MS, min_accuracy=0.5),
        asked(tenant="another"),
        asked(after_s=0.1),
        asked(after_s=-0.2),
    ],
)
def test_refusal_cache_ignores_different_query(found: Query) -> None:
    assert refused().find(found, NOW + 0.001) is None


def test_refusal_cache_expires_after_share_of_deadline() -> None:
    assert refused().find(asked(), NOW + 0.003) is REFUSAL
    assert refused().find(asked(), NOW + 0.005) is None


def test_refusal_cache_separates_queries_without_deadline() -> None:
    cache = RefusalCache()
    cache.keep(asked(latency_ms=None), REFUSAL, NOW)
    assert cache.find(asked(1.0, latency_ms=None), NOW + 0.009) is REFUSAL
    assert cache.find(asked(1.0, latency_ms=None), NOW + 0.011) is None
    assert cache.find(asked(), NOW) is None


def test_refusal_cache_is_bounded_for_many_tenants() -> None:
    cache = RefusalCache()
    for number in range(10_000):
        cache.keep(asked(tenant=f"t{number}"), REFUSAL, NOW)
    assert len(cache) <= 256


def test_load_shedder_accepts_soon_after_capacity_is_free() -> None:
    state = state_of(registered(FAST, ms=10.0))
    shedder = LoadShedder(PolicyConfig())
    state.apply_status(status(instance(FAST, queued=1000), slots=1), NOW)
    assert isinstance(shedder.decide(asked(), state, NOW), Refusal)
    state.apply_status(status(instance(FAST, queued=0), slots=1), NOW)
    assert isinstance(shedder.decide(asked(), state, NOW + 0.001), Refusal), (
        "a similar query was refused a millisecond ago"
    )
    assert isinstance(shedder.decide(asked(0.01), state, NOW + 0.01), Choice)
