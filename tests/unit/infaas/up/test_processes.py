"""Tests of supervised processes: the back-off between restarts, and the announced reason of an end."""

import pytest

from infaas.up.processes import STABLE_S, RestartBackoff, last_words


def test_restart_backoff_grows_until_a_process_is_stable() -> None:
    now_s = 0.0
    backoff = RestartBackoff(lambda: now_s)
    backoff.started()
    assert backoff.quick_ends == 0
    assert [backoff.ended() for _ in range(7)] == [0, 0.5, 1, 2, 4, 8, 10]
    now_s += 2 * STABLE_S
    assert backoff.quick_ends == 7, "no process has run meanwhile"
    backoff.started()
    now_s += STABLE_S
    assert backoff.quick_ends == 7
    now_s += 1.0
    assert backoff.quick_ends == 0
    assert backoff.ended() == 0
    assert backoff.quick_ends == 1


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ""),
        ("12:00 INFO started\nValueError: 3 is odd\n\n", "ValueError: 3 is odd"),
        ("  | ExceptionGroup: 1\n    | KeyError: 'a'\n    +--------", "KeyError: 'a'"),
        ("word " * 100, " ".join(["word"] * 59) + "..."),
    ],
)
def test_last_words_are_the_last_line_with_words(log: str, words: str) -> None:
    assert last_words(log) == words
