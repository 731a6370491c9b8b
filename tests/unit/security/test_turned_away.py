"""Tests of proofs of refused counts: a proof is valid only for its own query."""

from hypothesis import given
from hypothesis import strategies as st

from security.turned_away import is_turned_away_proof, turned_away_proof

SECRET = b"s" * 32
words = st.tuples(st.text(), st.text(), st.text(), st.text())


@given(said=words, other=words)
def test_turned_away_proof_is_valid_only_for_its_query(
    said: tuple[str, str, str, str], other: tuple[str, str, str, str]
) -> None:
    proof = turned_away_proof(SECRET, *said)
    assert is_turned_away_proof(SECRET, proof, *said)
    assert is_turned_away_proof(SECRET, proof, *other) == (said == other)
    assert not is_turned_away_proof(b"t" * 32, proof, *said)
    assert not is_turned_away_proof(SECRET, proof[:-1], *said)
    assert not is_turned_away_proof(SECRET, "\u00e9" + proof, *said)
