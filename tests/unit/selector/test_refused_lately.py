"""Only what is alike to a query just refused is refused with it, and not for longer than nobody would notice."""

import msgspec
import pytest

from schemas.errors import Overloaded
from schemas.query import Query
from selector.overload import LoadShedder
from selector.policy import Choice, PolicyConfig, Refusal
from selector.refused_lately import RefusedLately
from tests.unit.selector.story import FAST, NOW, instance, query, registered, state_of, status

LATENCY_MS = 200.0
REFUSAL = Refusal(Overloaded())


def asked(after_s: float = 0.0, latency_ms: float | None = LATENCY_MS, tenant: str | None = None) -> Query:
    return msgspec.structs.replace(query(sent=NOW + after_s, latency_ms=latency_ms), tenant=tenant)


def refused() -> RefusedLately:
    lately = RefusedLately()
    lately.keep(asked(), REFUSAL, NOW)
    return lately


def test_the_like_is_refused_with_it() -> None:
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
def test_what_could_be_decided_otherwise_is_not(found: Query) -> None:
    assert refused().find(found, NOW + 0.001) is None


def test_it_holds_for_a_small_share_of_the_time_that_was_left() -> None:
    assert refused().find(asked(), NOW + 0.003) is REFUSAL
    assert refused().find(asked(), NOW + 0.005) is None


def test_those_without_a_deadline_are_alike_among_themselves_only() -> None:
    lately = RefusedLately()
    lately.keep(asked(latency_ms=None), REFUSAL, NOW)
    assert lately.find(asked(1.0, latency_ms=None), NOW + 0.009) is REFUSAL
    assert lately.find(asked(1.0, latency_ms=None), NOW + 0.011) is None
    assert lately.find(asked(), NOW) is None


def test_invented_tenants_do_not_fill_it() -> None:
    lately = RefusedLately()
    for number in range(10_000):
        lately.keep(asked(tenant=f"t{number}"), REFUSAL, NOW)
    assert len(lately) <= 256


def test_a_status_that_says_there_is_room_is_noticed_within_milliseconds() -> None:
    state = state_of(registered(FAST, ms=10.0))
    shedder = LoadShedder(PolicyConfig())
    state.apply_status(status(instance(FAST, queued=1000), slots=1), NOW)
    assert isinstance(shedder.decide(asked(), state, NOW), Refusal)
    state.apply_status(status(instance(FAST, queued=0), slots=1), NOW)
    assert isinstance(shedder.decide(asked(), state, NOW + 0.001), Refusal), "it was refused a millisecond ago"
    assert isinstance(shedder.decide(asked(0.01), state, NOW + 0.01), Choice)
