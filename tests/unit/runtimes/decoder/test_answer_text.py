"""Tests of the text of an answer, as its tokens come."""

from hypothesis import given
from hypothesis import strategies as st

from runtimes.decoder.answer_text import AnswerText, StopTexts
from tests.decoder_models import END, byte_tokenizer


def grown(text: str, *stops: str) -> list[str]:
    """Return the pieces of an answer whose tokens are bytes."""
    answer = AnswerText(byte_tokenizer(), (), stops)
    return [answer.add(byte) for byte in text.encode()] + [answer.rest()]


def test_characters_of_several_tokens_come_whole() -> None:
    assert grown("aé€b") == ["a", "", "é", "", "", "€", "b", ""]


def test_special_tokens_have_no_text() -> None:
    answer = AnswerText(byte_tokenizer(), (END,), ())
    assert [answer.add(token) for token in (END, 97, END, 98)] == ["", "a", "", "b"]


def test_text_that_may_begin_stop_is_kept_back() -> None:
    assert grown("a<b<e>", "<end>") == ["a", "", "<b", "", "", "<e>", ""]
    assert grown("a<e", "<end>") == ["a", "", "", "<e"]


def test_stop_text_and_later_text_are_left_out() -> None:
    assert grown("a<end>b", "<end>", "no")[:-1] == ["a", *[""] * 6]
    assert StopTexts(["bc", "b"]).add("abcd") == "a"


@given(st.lists(st.text("ab", max_size=4), max_size=8), st.lists(st.text("ab", min_size=1, max_size=3), max_size=3))
def test_stop_texts_cut_at_first_place(pieces: list[str], stops: list[str]) -> None:
    search, whole = StopTexts(stops), "".join(pieces)
    given_text = "".join(search.add(piece) for piece in pieces) + search.rest()
    assert search.found == any(stop in whole for stop in stops)
    # A longer stop text that began earlier may end behind a shorter one, which has already ended the answer.
    assert whole.startswith(given_text)
    assert not any(stop in given_text for stop in stops)
    if not search.found:
        assert given_text == whole
