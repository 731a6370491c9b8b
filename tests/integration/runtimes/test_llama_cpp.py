"""Tests of llama.cpp as a runtime, with tiny models."""

import gc
import json
import urllib.error
import urllib.request
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

import numpy as np
import pytest

from runtimes.catalog import find_runtime, is_generative
from runtimes.llama_cpp import LlamaCppRuntime, LlamaCppSession
from runtimes.protocol import FinishedAnswer, GenerativeSession, LoadOptions, RunningAnswer
from schemas.errors import InvalidRequest, ModelFailed, QueryError
from schemas.generation import AnswerPart, GenerationOptions
from schemas.hardware import Hardware
from tests.gguf_models import CONTEXT, counted, write_gguf
from tests.waiting import PATIENCE_S

End = FinishedAnswer | QueryError | None


def loaded(folder: Path, *, layers: int = 2, sequences: int = 2, context: int = 256) -> LlamaCppSession:
    options = LoadOptions(precision="fp16", max_batch=sequences, context_tokens=context)
    return LlamaCppRuntime().load(write_gguf(folder / "tiny.gguf", layers=layers), Hardware.CPU, options)


def whole(session: LlamaCppSession, text: str, **options: Any) -> End:
    ends: SimpleQueue[End] = SimpleQueue()
    session.start(text, GenerationOptions(**options), lambda _part: None, ends.put)
    return ends.get(timeout=PATIENCE_S)


def test_session_is_generative(tmp_path: Path) -> None:
    session = loaded(tmp_path)
    assert is_generative("llama.cpp")
    assert isinstance(session, GenerativeSession)
    assert (session.context_tokens, session.running) == (256, 0)


def test_session_limits_context_to_that_of_model(tmp_path: Path) -> None:
    assert loaded(tmp_path, context=1 << 16, sequences=1).context_tokens == CONTEXT


def test_seeded_answer_is_repeated_beside_others(tmp_path: Path) -> None:
    session = loaded(tmp_path, sequences=4)
    options = GenerationOptions(max_tokens=30, seed=3, ignore_eos=True)
    alone = whole(session, "hello", max_tokens=30, seed=3, ignore_eos=True)
    ends: SimpleQueue[End] = SimpleQueue()
    for text in ("hello", "other", "third"):
        session.start(text, options, lambda _part: None, ends.put)
    texts = [end.text for end in (ends.get(timeout=PATIENCE_S) for _ in range(3)) if isinstance(end, FinishedAnswer)]
    assert isinstance(alone, FinishedAnswer)
    assert alone.text in texts


def test_model_that_counts_answers_alike_with_any_seed(tmp_path: Path) -> None:
    """Tests of whole systems rely on it: they know each token of an answer."""
    file, options = write_gguf(tmp_path / "counts.gguf", counts=True), LoadOptions(precision="fp16", context_tokens=256)
    session = LlamaCppRuntime().load(file, Hardware.CPU, options)
    for seed, prompt in enumerate(("prompt 7", "z", "~")):
        end = whole(session, prompt, max_tokens=120, seed=seed)
        assert isinstance(end, FinishedAnswer)
        assert (end.text, end.finish_reason) == (counted(prompt, 120), "length")


def test_parts_are_the_answer(tmp_path: Path) -> None:
    session, parts, ends = loaded(tmp_path), list[AnswerPart](), SimpleQueue[End]()
    options = GenerationOptions(max_tokens=20, ignore_eos=True, logprobs=1, seed=1)
    session.start("hello", options, parts.append, ends.put)
    end = ends.get(timeout=PATIENCE_S)
    assert isinstance(end, FinishedAnswer)
    assert "".join(part.text for part in parts) == end.text
    assert sum(part.tokens for part in parts) <= end.completion_tokens == 20
    assert end.mean_logprob == pytest.approx(np.mean([one.logprob for one in end.logprobs]))


def test_stop_ends_answer_before_text(tmp_path: Path) -> None:
    session = loaded(tmp_path)
    full = whole(session, "hello", max_tokens=40, seed=1, ignore_eos=True)
    assert isinstance(full, FinishedAnswer)
    stop = next(letter for letter in full.text[1:] if letter.isascii() and letter.isprintable())
    end = whole(session, "hello", max_tokens=40, seed=1, ignore_eos=True, stop=[stop])
    assert isinstance(end, FinishedAnswer)
    assert (end.text, end.finish_reason) == (full.text[: full.text.index(stop)], "stop")


def test_json_schema_shapes_answer(tmp_path: Path) -> None:
    schema = json.dumps({"enum": ["one", "two"]})
    chat = json.dumps([{"role": "user", "content": [{"type": "text", "text": "hello"}]}])
    for text, options in (("hello", {}), (chat, {"chat": True})):
        end = whole(loaded(tmp_path), text, json_schema=schema, max_tokens=150, **options)
        assert isinstance(end, FinishedAnswer)
        assert json.loads(end.text) in ("one", "two")


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a" * 300, {}, "has 300 tokens, but this model takes at most 256"),
        ("[]", {"chat": True}, "at least one message"),
        ("a", {"json_schema": "1"}, "json_schema must be a JSON object"),
    ],
)
def test_session_refuses_wrong_requests(tmp_path: Path, text: str, options: dict[str, Any], words: str) -> None:
    session = loaded(tmp_path)
    end = whole(session, text, **options)
    assert isinstance(end, InvalidRequest)
    assert words in str(end)
    assert isinstance(whole(session, "good", max_tokens=1), FinishedAnswer)


def test_cancel_ends_answer_and_frees_place(tmp_path: Path) -> None:
    session, begun, ends = loaded(tmp_path, layers=60, sequences=1), Event(), SimpleQueue[End]()
    running = session.start("a", GenerationOptions(ignore_eos=True), lambda _part: begun.set(), ends.put)
    assert begun.wait(PATIENCE_S)
    running.cancel()
    assert ends.get(timeout=PATIENCE_S) is None
    assert session.running == 0
    assert isinstance(whole(session, "b", max_tokens=1), FinishedAnswer)


def test_cancel_ends_answer_during_its_prompt(tmp_path: Path) -> None:
    session, parts = loaded(tmp_path, layers=60, sequences=1, context=CONTEXT), list[AnswerPart]()
    started, ends = SimpleQueue[RunningAnswer](), SimpleQueue[End]()

    def cancel(part: AnswerPart) -> None:
        parts.append(part)
        started.get(timeout=PATIENCE_S).cancel()

    started.put(session.start("a" * (CONTEXT - 2), GenerationOptions(max_tokens=1), cancel, ends.put))
    assert ends.get(timeout=PATIENCE_S) is None
    assert [(part.text, part.tokens) for part in parts] == [("", 0)]
    assert isinstance(whole(session, "b", max_tokens=1), FinishedAnswer)


def test_close_ends_running_answers(tmp_path: Path) -> None:
    session, ends = loaded(tmp_path, layers=60), SimpleQueue[End]()
    session.start("a", GenerationOptions(ignore_eos=True), lambda _part: None, ends.put)
    session.close()
    assert ends.get(timeout=PATIENCE_S) is None
    gc.collect()


def test_http_of_engine_needs_key(tmp_path: Path) -> None:
    server: Any = vars(loaded(tmp_path))["_server"]
    body = json.dumps({"prompt": "a", "max_tokens": 1}).encode()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(urllib.request.Request(f"{server.listening_address}/completion", data=body), timeout=30)


def test_load_refuses_damaged_model(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[:-100_000])
    with pytest.raises(ModelFailed, match=r"llama\.cpp cannot load the model"):
        LlamaCppRuntime().load(file, Hardware.CPU, LoadOptions(precision="fp16", max_batch=1))


def test_runtime_names_missing_gpu() -> None:
    availability = find_runtime("llama.cpp").availability(Hardware.CUDA)
    assert availability.available or availability.reason
