"""Tests of the ledger of a chaos campaign: each query id gets one outcome."""

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.ledger import NO_ANSWER, OK, ClosedIds, Ledger


def test_ledger_lost_excludes_dead_letters() -> None:
    ledger = Ledger()
    for query_id in ("answered", "silent", "buried", "in vain"):
        ledger.ask("library", query_id, 1.0)
    ledger.close("answered", OK, 2.0)
    ledger.close("in vain", NO_ANSWER, 3.0)
    ledger.bury("buried", "undecodable")
    assert ledger.lost() == 2
    assert ledger.open_before(1.5) == ["silent"]
    assert ledger.dead_letters == {"buried": "undecodable"}


def test_ledger_separates_repeats_from_second_answers() -> None:
    ledger = Ledger()
    ledger.ask("library", "a", 1.0)
    ledger.ask("kafka", "b", 1.0)
    for _ in range(2):
        ledger.close("a", OK, 2.0)
        ledger.close("b", OK, 2.0, repeats=True)
    ledger.close("of another campaign", OK, 2.0)
    assert (ledger.shown_twice, ledger.repeated, ledger.lost()) == (["a"], 1, 0)


def test_ledger_answer_replaces_dead_letter() -> None:
    ledger = Ledger()
    ledger.ask("kafka", "a", 1.0)
    ledger.bury("a", "odd")
    ledger.close("a", "invalid_request", 2.0, repeats=True)
    assert (ledger.dead_letters, ledger.lost(), ledger.repeated) == ({}, 0, 0)


def test_ledger_first_answer_ignores_earlier_queries() -> None:
    ledger = Ledger()
    ledger.ask("http", "before", 1.0)
    ledger.close("before", OK, 5.0)
    assert ledger.first_answer("http", 2.0) is None
    ledger.ask("http", "after", 3.0)
    ledger.close("after", OK, 6.0)
    assert ledger.first_answer("http", 2.0) == 6.0
    ledger.forget_answers(4.0)
    assert ledger.first_answer("http", 2.0) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "run-http-0", "run-http-7", "run-kafka-7", "run-http-07"]),
            st.sampled_from(["ask", "close", "bury"]),
        ),
        max_size=40,
    )
)
def test_ledger_counts_every_id_once(steps: list[tuple[str, str]]) -> None:
    ledger, asked = Ledger(), set[str]()
    for query_id, step in steps:
        if step == "ask" and query_id not in asked:
            ledger.ask("library", query_id, 0.0)
            asked.add(query_id)
        elif step == "close":
            ledger.close(query_id, OK, 1.0)
        elif step == "bury":
            ledger.bury(query_id, "why")
    told = sum(sum(counts.values()) for counts in ledger.outcomes.values())
    assert told + ledger.lost() + len(ledger.dead_letters) == len(asked) == ledger.asked


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
