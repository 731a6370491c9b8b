"""Tests of cascades of language models: a small model that knows some letters, before a large one that knows all."""

from collections.abc import Generator
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import numpy as np
import pytest

from registry.pipeline.generation_timing import make_token, time_generation
from runtimes.answer_progress import AnswerEnd
from runtimes.generative_cascade import GenerativeCascadeSession
from runtimes.protocol import FinishedAnswer, GenerativeSession, LoadOptions, RunningAnswer
from schemas.errors import InvalidRequest
from schemas.generation import TEXT_INPUT, AnswerPart, GenerationOptions
from schemas.tensors import bytes_array
from tests.gguf_models import ALL_KNOWN, counted
from tests.integration.runtimes.engines import Load, answers_of, ends_of, ignore, load_decoder, load_llama_cpp
from tests.waiting import PATIENCE_S

ENGINES: dict[str, tuple[Load, Load]] = {
    "llama.cpp": (load_llama_cpp, load_llama_cpp),
    "onnx-decoder": (load_decoder, load_decoder),
    "mixed": (load_decoder, load_llama_cpp),
}
EASY, HARD = "prompt A", "prompt a"
KNOWN, TOKENS, THRESHOLD = ord("Z"), 20, 0.9


@pytest.fixture(params=list(ENGINES.values()), ids=list(ENGINES))
def cascade(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[GenerativeCascadeSession]:
    load_first, load_then = request.param
    session = GenerativeCascadeSession(
        loaded(load_first, tmp_path / "first", KNOWN), loaded(load_then, tmp_path / "then", ALL_KNOWN), THRESHOLD
    )
    yield session
    session.close()


def loaded(load: Load, folder: Path, known: int, layers: int = 2) -> GenerativeSession:
    folder.mkdir()
    return load(folder, counts=True, known=known, layers=layers)


def test_confident_draft_is_answer_in_one_part(cascade: GenerativeCascadeSession) -> None:
    assert isinstance(cascade, GenerativeSession)
    parts, end = made(cascade, EASY, GenerationOptions(max_tokens=TOKENS))
    assert (end.text, end.draft_tokens, end.completion_tokens) == (counted(EASY, TOKENS), None, TOKENS)
    assert (end.mean_logprob, end.logprobs) == (None, []), "not asked for"
    *held, whole = parts
    assert {(part.text, part.tokens) for part in held} == {("", 0)}
    assert (whole.text, whole.tokens, whole.logprobs) == (end.text, TOKENS, [])
    assert cascade.escalated == 0


def test_unsure_draft_is_discarded_for_answer_in_parts(cascade: GenerativeCascadeSession) -> None:
    parts, end = made(cascade, HARD, GenerationOptions(max_tokens=TOKENS, logprobs=0, temperature=0))
    assert (end.text, end.draft_tokens, end.completion_tokens) == (counted(HARD, TOKENS), TOKENS, TOKENS)
    assert "".join(part.text for part in parts) == end.text
    assert sum(part.tokens for part in parts) == TOKENS
    assert sum(part.tokens > 0 for part in parts) > 1
    logprobs = [one for part in parts for one in part.logprobs]
    assert logprobs == end.logprobs, "none of the draft"
    assert end.mean_logprob == pytest.approx(np.mean([one.logprob for one in logprobs]))
    assert cascade.escalated == 1


def test_answers_at_once_come_from_both_stages(cascade: GenerativeCascadeSession) -> None:
    texts = [f"{number} {letter}" for number, letter in enumerate("AaBbCcDd")]
    answers = answers_of(cascade, *texts, max_tokens=8, temperature=0)
    assert [answer.text for answer in answers] == [counted(text, 8) for text in texts]
    assert [answer.draft_tokens for answer in answers] == [None, 8] * 4
    assert (cascade.escalated, cascade.running) == (0.5, 0)


def test_infer_states_log_probabilities_of_model_that_answered(cascade: GenerativeCascadeSession) -> None:
    outputs = cascade.infer({TEXT_INPUT: bytes_array([EASY[:-1] + "!", HARD])})
    assert outputs["text_output"].tolist() == [counted(text, 48).encode() for text in ("!", HARD)]
    assert outputs["mean_logprob"].tolist() == pytest.approx([0, 0], abs=0.01)


def test_draft_that_context_cuts_is_discarded(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    first = load_llama_cpp(tmp_path / "first", counts=True, context=256)
    cascade = GenerativeCascadeSession(first, load_llama_cpp(tmp_path, counts=True, context=512), THRESHOLD)
    (answer,) = answers_of(cascade, EASY, max_tokens=300)
    assert (answer.text, answer.completion_tokens) == (counted(EASY, 300), 300)
    assert answer.draft_tokens is not None
    assert answer.draft_tokens < 256
    cascade.close()


def test_request_that_first_stage_refuses_is_answered_by_second(tmp_path: Path) -> None:
    cascade = GenerativeCascadeSession(
        loaded(load_decoder, tmp_path / "first", KNOWN), loaded(load_llama_cpp, tmp_path / "then", ALL_KNOWN), THRESHOLD
    )
    (answer,) = answers_of(cascade, EASY, max_tokens=20, json_schema='{"type": "integer"}')
    assert answer.draft_tokens == 0
    assert answer.text.strip().lstrip("-").isdigit()
    (refused,) = ends_of(cascade, "[]", chat=True)
    assert isinstance(refused, InvalidRequest)
    cascade.close()


@pytest.mark.parametrize("layers", [(60, 2), (2, 60)], ids=["in the draft", "after the draft"])
def test_cancel_ends_answer_in_both_stages(tmp_path: Path, layers: tuple[int, int]) -> None:
    first, then = (
        loaded(load_llama_cpp, tmp_path / name, known, count)
        for name, known, count in zip(("first", "then"), (KNOWN, ALL_KNOWN), layers, strict=True)
    )
    cascade, begun, ends = GenerativeCascadeSession(first, then, THRESHOLD), Event(), SimpleQueue[AnswerEnd]()
    drafting = layers[0] > layers[1]

    def look(part: AnswerPart) -> None:
        if drafting or part.tokens:
            begun.set()

    options = GenerationOptions(max_tokens=100 if drafting else 200, temperature=0)
    running = cascade.start(HARD, options, look, ends.put)
    assert begun.wait(PATIENCE_S)
    running.cancel()
    assert ends.get(timeout=PATIENCE_S) is None
    assert cascade.running == 0
    assert cascade.escalated == (not drafting)
    assert answers_of(cascade, EASY, max_tokens=1)
    cascade.close()


def test_cancel_at_end_of_draft_keeps_second_stage_idle(cascade: GenerativeCascadeSession) -> None:
    """The draft is cancelled by its own last token, after which its engine reports a whole answer or none."""
    started, ends, parts = SimpleQueue[RunningAnswer](), SimpleQueue[AnswerEnd](), list[AnswerPart]()

    def cancel(part: AnswerPart) -> None:
        parts.append(part)
        if len(parts) == 1:
            started.get(timeout=PATIENCE_S).cancel()

    started.put(cascade.start(HARD, GenerationOptions(max_tokens=1), cancel, ends.put))
    assert ends.get(timeout=PATIENCE_S) is None
    assert sum(part.tokens for part in parts) == 0
    assert cascade.escalated == 0


def test_close_ends_running_answers(cascade: GenerativeCascadeSession) -> None:
    ends = SimpleQueue[AnswerEnd]()
    for text in (EASY, HARD, EASY, HARD):
        cascade.start(text, GenerationOptions(max_tokens=200), ignore, ends.put)
    cascade.close()
    for _ in range(4):
        ends.get(timeout=PATIENCE_S)


def test_time_generation_measures_both_stages(cascade: GenerativeCascadeSession) -> None:
    texts = bytes_array([f"question {number} {letter}" for number, letter in enumerate("AaBbCcDd")])
    make_token(cascade)
    profile = time_generation(cascade, texts, LoadOptions(precision="fp32", max_batch=2), 1)
    assert profile.draft is not None
    for stage in (profile, profile.draft):
        assert [one.sequences for one in stage.step] == [1, 2]
        assert stage.step[1].p50_s >= 2 * stage.step[0].p50_s
        assert stage.prefill[0].p50_s > 0
    assert profile.answer_tokens >= profile.draft.answer_tokens
    assert cascade.escalated == 0, "measurements are no answers"


def made(session: GenerativeSession, text: str, options: GenerationOptions) -> tuple[list[AnswerPart], FinishedAnswer]:
    """Make one answer; return its parts and its end."""
    parts, ends = list[AnswerPart](), SimpleQueue[AnswerEnd]()
    session.start(text, options, parts.append, ends.put)
    end = ends.get(timeout=PATIENCE_S)
    assert isinstance(end, FinishedAnswer), end
    return parts, end
