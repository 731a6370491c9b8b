"""Whether the name of a worker is free: by heartbeats, and at once for a restart."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from store.placement import NameHolder
from workers.name_claim import NameVerdict, judge_name

HOLDER = NameHolder(
    epoch=3, host="one", home="one-aaaa", retired=False, heartbeat_at=datetime(2026, 1, 1, tzinfo=UTC), alive=True
)


def _judged(first: NameHolder | None, now: NameHolder | None) -> NameVerdict:
    return judge_name(first, now, "two", "two-bbbb")


def test_unknown_name_is_free() -> None:
    assert _judged(None, None) is NameVerdict.FREE


@pytest.mark.parametrize("gone", [{"retired": True}, {"alive": False}])
def test_name_of_one_that_left_is_free(gone: dict[str, Any]) -> None:
    assert _judged(None, replace(HOLDER, **gone)) is NameVerdict.FREE


def test_restart_takes_its_name_at_once() -> None:
    assert judge_name(None, HOLDER, "one", "one-aaaa") is NameVerdict.FREE


@pytest.mark.parametrize("other", [("one", "two-bbbb"), ("two", "one-aaaa")])
def test_other_folder_or_host_is_no_restart(other: tuple[str, str]) -> None:
    assert judge_name(None, HOLDER, *other) is NameVerdict.UNKNOWN


def test_heartbeat_proves_a_living_holder() -> None:
    beats = replace(HOLDER, heartbeat_at=HOLDER.heartbeat_at + timedelta(seconds=1))
    assert _judged(HOLDER, HOLDER) is NameVerdict.UNKNOWN
    assert _judged(HOLDER, beats) is NameVerdict.TAKEN
    assert _judged(HOLDER, replace(HOLDER, epoch=4)) is NameVerdict.TAKEN
    assert _judged(HOLDER, replace(beats, alive=False)) is NameVerdict.FREE
