"""Proofs of counts: right for the query that they came with alone."""

from hypothesis import given
from hypothesis import strategies as st

from security.rejected_upstream import is_rejected_upstream_proof, rejected_upstream_proof

SECRET = b"s" * 32
words = st.tuples(st.text(), st.text(), st.text(), st.text())


@given(said=words, other=words)
def test_proof_is_right_for_its_own_query_alone(
    said: tuple[str, str, str, str], other: tuple[str, str, str, str]
) -> None:
    proof = rejected_upstream_proof(SECRET, *said)
    assert is_rejected_upstream_proof(SECRET, proof, *said)
    assert is_rejected_upstream_proof(SECRET, proof, *other) == (said == other)
    assert not is_rejected_upstream_proof(b"t" * 32, proof, *said)
    assert not is_rejected_upstream_proof(SECRET, proof[:-1], *said)
    assert not is_rejected_upstream_proof(SECRET, "\u00e9" + proof, *said)
