"""Tests of `what_exceeds`: a new key has no more rights than the key of its creator."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.principal import Principal, Quota, Role
from schemas.rows.api_keys import ApiKeyRow
from security.grants import what_exceeds

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
FEW = Principal("few", "acme", frozenset({Role.PUBLISH}), frozenset({"a", "b"}), Quota(per_second=5.0, concurrent=2))
MADE = ApiKeyRow(
    id="0" * 12, secret_hash=b"", tenant="acme", roles=[Role.QUERY], tasks=["a"], per_second=5.0, concurrent=1,
    expires_at=NOW,
)  # fmt: skip


def test_what_exceeds_accepts_equal_or_lesser_rights() -> None:
    assert what_exceeds(MADE, FEW, LATER) == ""
    everything = Principal("all", None, frozenset({Role.ADMIN}))
    unlimited = replace(MADE, roles=[Role.ADMIN], tasks=None, per_second=None, concurrent=None, expires_at=None)
    assert what_exceeds(unlimited, everything, None) == ""


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"roles": [Role.ADMIN]}, "role"),
        ({"tasks": None}, "tasks"),
        ({"tasks": ["a", "c"]}, "tasks"),
        ({"expires_at": None}, "expire after"),
        ({"expires_at": LATER + timedelta(seconds=1)}, "expire after"),
        ({"per_second": None}, "quota"),
        ({"per_second": 6.0}, "quota"),
        ({"concurrent": 3}, "quota"),
    ],
)
def test_what_exceeds_names_the_excess(changed: Any, says: str) -> None:
    assert says in what_exceeds(replace(MADE, **changed), FEW, LATER)
