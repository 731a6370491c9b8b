"""Tests of API keys: form, hash, and limits of derived keys."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from process.security.api_keys import ID_BYTES, SECRET_BYTES, id_in, is_key, make_key, read_key, what_exceeds
from schemas.access import Principal, Quota, Role
from schemas.rows.tenants import ApiKeyRow

RANDOM = st.binary(min_size=ID_BYTES + SECRET_BYTES, max_size=ID_BYTES + SECRET_BYTES)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
FEW = Principal("few", "acme", frozenset({Role.PUBLISH}), frozenset({"a", "b"}), Quota(per_second=5.0, concurrent=2))
MADE = ApiKeyRow(
    id="0" * 12, secret_hash=b"", tenant="acme", roles=[Role.QUERY], tasks=["a"], per_second=5.0, concurrent=1,
    expires_at=NOW,
)  # fmt: skip


@given(RANDOM)
def test_read_key_restores_new_key(random: bytes) -> None:
    key = make_key(random)
    assert read_key(str(key)) == key
    assert is_key(str(key), key.id, key.hash())
    assert id_in(str(key)) == key.id


@given(RANDOM, RANDOM)
def test_is_key_refuses_other_secret(one: bytes, other: bytes) -> None:
    asked, kept = make_key(one), make_key(other)
    assert is_key(str(asked), asked.id, kept.hash()) is (one[ID_BYTES:] == other[ID_BYTES:])
    assert is_key(str(asked), kept.id, asked.hash()) is (one[:ID_BYTES] == other[:ID_BYTES])


@given(RANDOM, st.integers(0, 62), st.characters(exclude_categories=["Cs"]))
def test_is_key_refuses_changed_letter(random: bytes, at: int, letter: str) -> None:
    text = str(make_key(random))
    changed = text[: at % len(text)] + letter + text[at % len(text) + 1 :]
    found = read_key(changed)
    assert is_key(changed, make_key(random).id, make_key(random).hash()) is (changed == text)
    assert found is None or (str(found) == changed and (changed == text) == (found == make_key(random)))


@given(st.text())
def test_read_key_refuses_any_other_text(text: str) -> None:
    assert read_key(text) is None
    assert not is_key(text, "", bytes(32))


def test_api_key_hides_secret_in_repr() -> None:
    key = make_key(bytes(range(ID_BYTES + SECRET_BYTES)))
    assert key.secret not in repr(key)


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
