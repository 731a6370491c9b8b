"""Tests of the ledger of a chaos campaign: each query id gets one outcome."""

from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.ledger import NO_ANSWER, OK, Ledger


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
