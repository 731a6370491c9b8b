"""Tests of the behaviour that the sessions of all engines of language models share, with tiny models."""

import gc
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

import numpy as np
import pytest

from runtimes.answer_progress import AnswerEnd
from runtimes.catalog import find_runtime, is_generative
from runtimes.protocol import FinishedAnswer, GenerativeSession, RunningAnswer
from schemas.errors import InvalidRequest
from schemas.generation import TEXT_INPUT, AnswerPart, GenerationOptions
from schemas.hardware import Hardware
from schemas.tensors import bytes_array
from tests.gguf_models import CONTEXT, counted
from tests.integration.runtimes.engines import Load, answers_of, ends_of, load_decoder, load_llama_cpp
from tests.waiting import PATIENCE_S

ENGINES: dict[str, Load] = {"llama.cpp": load_llama_cpp, "onnx-decoder": load_decoder}


@pytest.fixture(params=list(ENGINES.values()), ids=list(ENGINES))
def load(request: pytest.FixtureRequest) -> Load:
    return request.param


@pytest.mark.parametrize("name", list(ENGINES))
def test_engine_is_runtime_and_names_missing_gpu(name: str) -> None:
    assert is_generative(name)
    availability = find_runtime(name).availability(Hardware.CUDA)
    assert availability.available or availability.reason


def test_session_is_generative(load: Load, tmp_path: Path) -> None:
    session = load(tmp_path)
    assert isinstance(session, GenerativeSession)
    assert (session.context_tokens, session.running) == (256, 0)


def test_session_limits_context_to_that_of_model(load: Load, tmp_path: Path) -> None:
    assert load(tmp_path, context=1 << 16, sequences=1).context_tokens == CONTEXT


def test_seeded_answer_is_repeated_beside_others(load: Load, tmp_path: Path) -> None:
    session, options = load(tmp_path, sequences=4), {"max_tokens": 30, "seed": 3, "ignore_eos": True}
    (alone,) = answers_of(session, "hello", **options)
    first, *others = answers_of(session, "hello", "other", "third", **options)
    assert first.text == alone.text
    assert all(other.text != alone.text for other in others)


def test_model_that_counts_answers_alike_with_any_seed(load: Load, tmp_path: Path) -> None:
    """Tests of whole systems rely on it: they know each token of an answer."""
    session = load(tmp_path, counts=True)
    for seed, prompt in enumerate(("prompt 7", "z", "~")):
        (answer,) = answers_of(session, prompt, max_tokens=120, seed=seed)
        assert (answer.text, answer.finish_reason) == (counted(prompt, 120), "length")


def test_infer_makes_whole_likeliest_answers(load: Load, tmp_path: Path) -> None:
    session = load(tmp_path, counts=True)
    chat = '[{"role": "user", "content": "hello"}]'
    outputs = session.infer({TEXT_INPUT: bytes_array(["a", "prompt x", chat])})
    assert outputs["text_output"].tolist()[:2] == [counted(text, 48).encode() for text in ("a", "x")]
    assert outputs["completion_tokens"].tolist()[:2] == [48, 48]
    assert outputs["mean_logprob"].tolist()[:2] == pytest.approx([0, 0], abs=0.01)


def test_parts_are_the_answer(load: Load, tmp_path: Path) -> None:
    session, parts, ends = load(tmp_path), list[AnswerPart](), SimpleQueue[AnswerEnd]()
    options = GenerationOptions(max_tokens=20, ignore_eos=True, logprobs=1, seed=1)
    session.start("hello", options, parts.append, ends.put)
    end = ends.get(timeout=PATIENCE_S)
    assert isinstance(end, FinishedAnswer)
    assert "".join(part.text for part in parts) == end.text
    assert sum(part.tokens for part in parts) <= end.completion_tokens == 20
    assert end.mean_logprob == pytest.approx(np.mean([one.logprob for one in end.logprobs]))


def test_stop_ends_answer_before_text(load: Load, tmp_path: Path) -> None:
    session, options = load(tmp_path), {"max_tokens": 40, "seed": 1, "ignore_eos": True}
    (full,) = answers_of(session, "hello", **options)
    stop = next(letter for letter in full.text[1:] if letter.isascii() and letter.isprintable())
    (answer,) = answers_of(session, "hello", **options, stop=[stop])
    assert (answer.text, answer.finish_reason) == (full.text[: full.text.index(stop)], "stop")


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a" * 300, {}, "has 300 tokens, but this model takes at most 256"),
        ("[]", {"chat": True}, "at least one message"),
    ],
)
def test_session_refuses_wrong_requests(
    load: Load, tmp_path: Path, text: str, options: dict[str, Any], words: str
) -> None:
    session = load(tmp_path)
    (end,) = ends_of(session, text, **options)
    assert isinstance(end, InvalidRequest)
    assert words in str(end)
    assert answers_of(session, "good", max_tokens=1)


def test_answer_ends_with_context(load: Load, tmp_path: Path) -> None:
    (answer,) = answers_of(load(tmp_path), "a" * 250, ignore_eos=True)
    assert (answer.prompt_tokens, answer.finish_reason) == (250, "length")
    assert answer.completion_tokens <= 256 - 250


def test_cancel_ends_answer_and_frees_place(load: Load, tmp_path: Path) -> None:
    session, begun, ends = load(tmp_path, layers=60, sequences=1), Event(), SimpleQueue[AnswerEnd]()
    running = session.start("a", GenerationOptions(ignore_eos=True), lambda _part: begun.set(), ends.put)
    assert begun.wait(PATIENCE_S)
    running.cancel()
    assert ends.get(timeout=PATIENCE_S) is None
    assert session.running == 0
    assert answers_of(session, "b", max_tokens=1)


def test_cancel_ends_answer_during_its_prompt(load: Load, tmp_path: Path) -> None:
    session, parts = load(tmp_path, layers=60, sequences=1, context=CONTEXT), list[AnswerPart]()
    started, ends = SimpleQueue[RunningAnswer](), SimpleQueue[AnswerEnd]()

    def cancel(part: AnswerPart) -> None:
        parts.append(part)
        started.get(timeout=PATIENCE_S).cancel()

    started.put(session.start("a" * (CONTEXT - 2), GenerationOptions(max_tokens=1), cancel, ends.put))
    assert ends.get(timeout=PATIENCE_S) is None
    assert [(part.text, part.tokens) for part in parts] == [("", 0)]
    assert answers_of(session, "b", max_tokens=1)


def test_close_ends_running_answers(load: Load, tmp_path: Path) -> None:
    session, ends = load(tmp_path, layers=60), SimpleQueue[AnswerEnd]()
    session.start("a", GenerationOptions(ignore_eos=True), lambda _part: None, ends.put)
    session.close()
    assert ends.get(timeout=PATIENCE_S) is None
    gc.collect()
