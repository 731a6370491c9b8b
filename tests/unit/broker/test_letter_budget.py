"""Tests of `LetterBudget`: dead letters beyond their topic's budget are shortened."""

from hypothesis import given
from hypothesis import strategies as st

from broker.letter_budget import BURST_BYTES, HEAD_BYTES, LetterBudget


@given(st.lists(st.tuples(st.integers(1, BURST_BYTES), st.floats(0, 1000)), max_size=50))
def test_letter_budget_bounds_the_bytes_kept_whole(letters: list[tuple[int, float]]) -> None:
    budget, now_s, whole = LetterBudget(), 0.0, 0
    for size, pause_s in letters:
        now_s += pause_s
        if budget.keep_bytes("t", size, now_s) is None and size > HEAD_BYTES:
            whole += size
    assert whole <= BURST_BYTES * (1 + now_s / 3600) + 1


def test_letter_budget_keeps_small_letters_whole() -> None:
    budget = LetterBudget()
    assert budget.keep_bytes("t", BURST_BYTES, 0.0) is None
    assert budget.keep_bytes("t", HEAD_BYTES + 1, 0.0) == HEAD_BYTES
    assert budget.keep_bytes("t", HEAD_BYTES, 0.0) is None
    assert budget.keep_bytes("other", BURST_BYTES, 0.0) is None


def test_letter_budget_refunds_unwritten_letter() -> None:
    budget = LetterBudget()
    for _ in range(10):
        assert budget.keep_bytes("t", BURST_BYTES, 0.0) is None
        budget.give_back("t", BURST_BYTES)
