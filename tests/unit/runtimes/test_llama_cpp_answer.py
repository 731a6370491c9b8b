"""Tests of an answer of llama.cpp, from the events of its engine."""

from typing import Any

from runtimes.llama_cpp import _Answer  # pyright: ignore[reportPrivateUsage] - the engine has no other stand-in
from runtimes.protocol import FinishedAnswer
from schemas.generation import AnswerPart, GenerationOptions


def event(text: str, tokens: int, *, finish: str | None = None) -> dict[str, Any]:
    entry = {"token": f"t{tokens}", "logprob": -1.0, "top_logprobs": []}
    choice = {
        "text": text,
        "logprobs": {"content": [entry]} if tokens and not finish else None,
        "finish_reason": finish,
    }
    return {"choices": [choice], "timings": {"cache_n": 0, "prompt_n": 3, "predicted_n": tokens}}


def test_answer_shows_progress_of_tokens_without_text() -> None:
    parts: list[AnswerPart] = []
    answer = _Answer(parts.append, GenerationOptions(logprobs=0))
    for made in (event("a", 1), event("", 2), event("", 3), event("bcd", 4), event("", 4, finish="stop")):
        assert not answer.take(made)
    end = answer.end()
    assert isinstance(end, FinishedAnswer)
    assert [(part.text, part.tokens) for part in parts] == [("a", 1), ("", 1), ("", 1), ("bcd", 1)]
    assert [one for part in parts for one in part.logprobs] == end.logprobs


def test_answer_shows_progress_of_its_prompt() -> None:
    parts: list[AnswerPart] = []
    answer = _Answer(parts.append, GenerationOptions())
    assert not answer.take(event("", 0))
    answer.cancel()
    assert answer.take(event("", 0))
    assert [(part.text, part.tokens) for part in parts] == [("", 0)]


def test_answer_sees_cancellation_at_token_without_text() -> None:
    parts: list[AnswerPart] = []
    answer = _Answer(parts.append, GenerationOptions())
    answer.cancel()
    assert answer.take(event("", 1))
    assert not parts
