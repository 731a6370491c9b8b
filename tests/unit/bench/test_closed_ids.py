"""Tests of `ClosedIds`: a compact set of the query ids that were answered."""

from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.closed_ids import ClosedIds

_IDS = st.one_of(
    st.builds("{}-{}".format, st.sampled_from(["run-http", "run-kafka", ""]), st.integers(0, 300)),
    st.sampled_from(["", "-", "run-http-", "run-http-007", "run-http--1", "run-http-12345678901", "run-http-\u0663"]),
    st.text(max_size=5),
)


@given(st.lists(_IDS, max_size=60), st.lists(_IDS, max_size=20))
def test_closed_ids_behave_as_a_set(added: list[str], others: list[str]) -> None:
    closed = ClosedIds()
    for query_id in added:
        closed.add(query_id)
    assert len(closed) == len(set(added))
    assert [query_id in closed for query_id in (*added, *others)] == [True] * len(added) + [x in added for x in others]


def test_closed_ids_use_less_than_two_bytes_per_id() -> None:
    closed = ClosedIds()
    for number in range(1_000_000):
        closed.add(f"run-http-{number}")
    assert len(closed) == 1_000_000
    assert closed.size_bytes < 2_000_000
