"""Tests of judging if a worker's name is free: by heartbeats, and at once after a restart."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from store.placement import NameHolder
from workers.worker_name import NameVerdict, judge_name

HOLDER = NameHolder(
    epoch=3, host="one", home="one-aaaa", retired=False, heartbeat_at=datetime(2026, 1, 1, tzinfo=UTC), alive=True
)


def _judged(first: NameHolder | None, now: NameHolder | None) -> NameVerdict:
    return judge_name(first, now, "two", "two-bbbb")


def test_judge_name_frees_unknown_name() -> None:
    assert _judged(None, None) is NameVerdict.FREE


@pytest.mark.parametrize("gone", [{"retired": True}, {"alive": False}])
def test_judge_name_frees_name_of_gone_worker(gone: dict[str, Any]) -> None:
    assert _judged(None, replace(HOLDER, **gone)) is NameVerdict.FREE


def test_judge_name_frees_own_name_after_restart() -> None:
    assert judge_name(None, HOLDER, "one", "one-aaaa") is NameVerdict.FREE


@pytest.mark.parametrize("other", [("one", "two-bbbb"), ("two", "one-aaaa")])
def test_judge_name_requires_same_host_and_folder_for_restart(other: tuple[str, str]) -> None:
    assert judge_name(None, HOLDER, *other) is NameVerdict.UNKNOWN


def test_judge_name_detects_live_holder_by_heartbeat() -> None:
    beats = replace(HOLDER, heartbeat_at=HOLDER.heartbeat_at + timedelta(seconds=1))
    assert _judged(HOLDER, HOLDER) is NameVerdict.UNKNOWN
    assert _judged(HOLDER, beats) is NameVerdict.TAKEN
    assert _judged(HOLDER, replace(HOLDER, epoch=4)) is NameVerdict.TAKEN
    assert _judged(HOLDER, replace(beats, alive=False)) is NameVerdict.FREE
