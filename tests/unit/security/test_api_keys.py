"""API keys as text: what is made is read again, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security.api_keys import ID_BYTES, SECRET_BYTES, id_in, is_key, make_key, read_key

RANDOM = st.binary(min_size=ID_BYTES + SECRET_BYTES, max_size=ID_BYTES + SECRET_BYTES)


@given(RANDOM)
def test_a_key_is_read_as_it_was_made(random: bytes) -> None:
    key = make_key(random)
    assert read_key(str(key)) == key
    assert is_key(str(key), key.id, key.hash())
    assert id_in(str(key)) == key.id


@given(RANDOM, RANDOM)
def test_no_other_secret_matches(one: bytes, other: bytes) -> None:
    asked, kept = make_key(one), make_key(other)
    assert is_key(str(asked), asked.id, kept.hash()) is (one[ID_BYTES:] == other[ID_BYTES:])
    assert is_key(str(asked), kept.id, asked.hash()) is (one[:ID_BYTES] == other[:ID_BYTES])


@given(RANDOM, st.integers(0, 62), st.characters(exclude_categories=["Cs"]))
def test_what_differs_in_a_letter_is_another_key_or_none(random: bytes, at: int, letter: str) -> None:
    text = str(make_key(random))
    changed = text[: at % len(text)] + letter + text[at % len(text) + 1 :]
    found = read_key(changed)
    assert is_key(changed, make_key(random).id, make_key(random).hash()) is (changed == text)
    assert found is None or (str(found) == changed and (changed == text) == (found == make_key(random)))


@given(st.text())
def test_any_other_text_is_no_key(text: str) -> None:
    assert read_key(text) is None
    assert not is_key(text, "", bytes(32))


def test_a_key_does_not_show_its_secret_by_accident() -> None:
    key = make_key(bytes(range(ID_BYTES + SECRET_BYTES)))
    assert key.secret not in repr(key)
    assert key.secret not in repr({"key": key})
    assert key.secret in str(key)


def test_too_few_random_bytes_make_no_key() -> None:
    with pytest.raises(ValueError, match="38 bytes, not 16"):
        make_key(b"0" * 16)


def test_what_is_kept_is_the_hash_of_all_of_the_secret() -> None:
    key = make_key(b"0" * (ID_BYTES + SECRET_BYTES))
    assert not is_key(str(key)[:-1], key.id, key.hash())
