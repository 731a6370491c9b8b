"""Tests of answers that grow by parts: each token once and in order, despite attempts, losses and repeats."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.generated_answer import (
    MAX_AHEAD,
    MAX_ATTEMPTS,
    AnswerRestart,
    GeneratedAnswer,
    GrowingAnswer,
    read_answers,
)
from schemas.generation import AnswerPart, TokenLogprob
from schemas.oip import encode_response
from schemas.result import Result
from schemas.tensors import bytes_array

TEXT = "the cat sat on the mat and looked at the dog"
WORDS = [f"{word} " for word in TEXT.split()]


def part(text: str) -> AnswerPart:
    return AnswerPart(text=text, tokens=1, logprobs=[TokenLogprob(token=text, logprob=-1.0)])


def answer(words: list[str]) -> GeneratedAnswer:
    logprobs = [TokenLogprob(token=word, logprob=-1.0) for word in words]
    return GeneratedAnswer(text="".join(words), completion_tokens=len(words), logprobs=logprobs)


class Caller:
    """Caller of an answer: what it was given since the last restart."""

    def __init__(self) -> None:
        self.answer = GrowingAnswer()
        self.text, self.tokens, self.restarts = "", 0, 0
        self.logprobs: list[str] = []

    def add(self, attempt: int, number: int, words: list[str]) -> None:
        self.answer.add(str(attempt), number, AnswerPart(text="", tokens=0) if number < 0 else part(words[number]))

    def read(self) -> None:
        while (event := self.answer.take()) is not None:
            if isinstance(event, AnswerRestart):
                self.text, self.tokens, self.logprobs = "", 0, []
                self.restarts += 1
            else:
                assert event.text
                self.text += event.text
                self.tokens += event.tokens
                self.logprobs += [token.token for token in event.logprobs]


@st.composite
def deliveries(draw: st.DrawFn, texts: list[list[str]]) -> list[tuple[int, int] | None]:
    """Parts of attempts, as attempt and number, in any order, some lost and some repeated; None: the caller reads.

    The part -1, which says that a piece of the prompt was computed, is empty.
    """
    parts = [(attempt, number) for attempt, words in enumerate(texts) for number in range(-1, len(words))]
    some = draw(st.lists(st.sampled_from(parts), max_size=2 * len(parts))) if parts else []
    ordered = draw(st.booleans())
    events: list[tuple[int, int] | None] = [*(sorted(some) if ordered else some)]
    for at in draw(st.lists(st.integers(0, len(events)), max_size=len(events) + 1)):
        events.insert(at, None)
    return events


@given(st.data(), st.integers(1, 4))
def test_growing_answer_gives_each_token_once_if_attempts_agree(data: st.DataObject, attempts: int) -> None:
    texts = [WORDS] * attempts
    caller = Caller()
    for event in data.draw(deliveries(texts)):
        if event is None:
            caller.read()
            assert "".join(WORDS).startswith(caller.text)
        else:
            caller.add(*event, texts[event[0]])
    caller.answer.finish(answer(WORDS))
    caller.read()
    assert (caller.text, caller.tokens, caller.logprobs) == ("".join(WORDS), len(WORDS), WORDS)
    assert not caller.restarts


@given(st.data(), st.lists(st.tuples(st.integers(0, len(WORDS)), st.booleans()), min_size=1, max_size=6))
def test_growing_answer_ends_as_its_result(data: st.DataObject, forks: list[tuple[int, bool]]) -> None:
    texts = [[*WORDS[:fork], *(["else "] * 3 if differs else WORDS[fork:])] for fork, differs in forks]
    caller = Caller()
    for event in data.draw(deliveries(texts)):
        if event is None:
            caller.read()
            assert any("".join(words).startswith(caller.text) for words in texts)
        else:
            caller.add(*event, texts[event[0]])
    final = data.draw(st.sampled_from(texts))
    caller.answer.finish(answer(final))
    caller.read()
    assert (caller.text, caller.tokens, caller.logprobs) == ("".join(final), len(final), final)
    assert caller.restarts <= len(texts) + 1


def test_growing_answer_restarts_for_newest_attempt_only() -> None:
    caller = Caller()
    caller.answer.add("a", 0, part("one "))
    caller.read()
    caller.answer.add("b", 0, part("two "))
    caller.read()
    caller.answer.add("a", 1, part("three "))  # a worker that was thought dead goes on
    caller.read()
    assert (caller.text, caller.restarts) == ("two ", 1)


def test_growing_answer_bounds_parts_and_attempts() -> None:
    caller = Caller()
    for attempt in range(3 * MAX_ATTEMPTS):
        for number in range(1, 3 * MAX_AHEAD):
            caller.answer.add(str(attempt), number, part("x"))
        caller.read()
    assert not caller.text
    assert len(msgspec.to_builtins(list(caller.answer._attempts))) == MAX_ATTEMPTS  # pyright: ignore[reportPrivateUsage]


def test_read_answers_reads_each_row() -> None:
    outputs = {
        "text_output": bytes_array(["a", "b"]),
        "finish_reason": bytes_array(["stop", "length"]),
        "logprobs": bytes_array(["", '[{"token": "b", "logprob": -0.5}]']),
    }
    for binary in (False, True):
        message = encode_response("v", "1", outputs, binary=binary)
        result = Result(id="1", status="ok", value=message.value, json_length=message.json_length)
        first, second = read_answers(result)
        assert (first.text, first.finish_reason, first.logprobs) == ("a", "stop", [])
        assert (second.text, second.finish_reason) == ("b", "length")
        assert second.logprobs == [TokenLogprob(token="b", logprob=-0.5)]
