"""Tests of ONNX decoders as a runtime, beyond those of all generative sessions: their tokens are those of numpy."""

import json
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from registry.pipeline.generation import GenerateVariant
from registry.recipes import GeneratorKind
from runtimes.answer_progress import AnswerEnd
from runtimes.catalog import find_runtime
from runtimes.decoder.graph import DecoderGraph
from runtimes.decoder.session import DecoderSession
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest, ModelFailed
from schemas.generation import AnswerPart, GenerationOptions
from schemas.hardware import Hardware
from tests.decoder_models import END, decoder_weights, greedy_tokens, write_decoder
from tests.integration.runtimes.engines import answers_of, ends_of, ignore, import_folder, load_folder
from tests.waiting import PATIENCE_S

COUNT = 16
LONG = "a prompt of more tokens than one piece has, so that it is computed in several pieces, one a step; " * 2
PROMPTS = ("hello", "a", LONG, "prompt of a middle length", "b", "one more than there are places")
GREEDY = GenerationOptions(temperature=0, ignore_eos=True, max_tokens=COUNT)


def tokens_of(session: DecoderSession, *prompts: str) -> list[list[int]]:
    """Make answers at once; return their tokens."""
    running = list[tuple[Any, Event]]()
    for prompt in prompts:
        ended = Event()

        def end(_end: AnswerEnd, ended: Event = ended) -> None:
            ended.set()

        running.append((session.start(prompt, GREEDY, ignore, end), ended))
    assert all(ended.wait(PATIENCE_S) for _, ended in running)
    return [answer.tokens_so_far[answer.prompt_tokens :] for answer, _ in running]


def expected(weights: Any, *prompts: str) -> list[list[int]]:
    return [greedy_tokens(weights, list(prompt.encode()), COUNT) for prompt in prompts]


@pytest.mark.parametrize("graph", [{}, {"positions": False}, {"masks": False}], ids=["padded", "counts", "unmasked"])
def test_greedy_tokens_are_those_of_numpy(tmp_path: Path, graph: dict[str, bool]) -> None:
    """Six answers in four places join and leave the batch, and each has the tokens that it has alone."""
    weights = decoder_weights()
    session = load_folder(write_decoder(tmp_path / "model", weights, **graph))
    wanted = expected(weights, *PROMPTS)
    assert [tokens_of(session, prompt)[0] for prompt in PROMPTS] == wanted
    assert tokens_of(session, *PROMPTS) == wanted


def test_prompt_that_begins_alike_is_computed_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, computed = decoder_weights(), list[int]()
    session, compute = load_folder(write_decoder(tmp_path / "model", weights)), DecoderGraph.compute

    def counted(graph: DecoderGraph, tokens: Sequence[Sequence[int]], *rest: Any) -> Any:
        computed.append(len(tokens[0]))
        return compute(graph, tokens, *rest)

    monkeypatch.setattr(DecoderGraph, "compute", counted)
    assert tokens_of(session, LONG) == expected(weights, LONG)
    assert sum(computed) == len(LONG) + COUNT - 1
    computed.clear()
    assert tokens_of(session, LONG + "more") == expected(weights, LONG + "more")
    assert sum(computed) == len("more") + COUNT - 1
    (answer,) = answers_of(session, LONG + "again", max_tokens=1)
    assert (answer.prompt_tokens, answer.cached_tokens) == (len(LONG + "again"), len(LONG))


def test_cancelled_answers_leave_others_as_they_are(tmp_path: Path) -> None:
    weights, begun, ended = decoder_weights(), Event(), Event()
    session = load_folder(write_decoder(tmp_path / "model", weights), sequences=2)
    forever = GenerationOptions(ignore_eos=True, seed=1)

    def begin(_part: AnswerPart) -> None:
        begun.set()

    def end(_end: AnswerEnd) -> None:
        ended.set()

    unwanted = [session.start("zz", forever, begin, ignore) for _ in range(2)]
    waiting = session.start("zz", forever, ignore, end)
    assert begun.wait(PATIENCE_S)
    waiting.cancel()
    assert ended.wait(PATIENCE_S), "it has no place, and need not wait for one to end"
    unwanted[0].cancel()
    assert tokens_of(session, "hello") == expected(weights, "hello")
    unwanted[1].cancel()
    session.close()
    assert session.running == 0


def test_end_token_ends_answer(tmp_path: Path) -> None:
    weights = decoder_weights(counts=True)
    session = load_folder(write_decoder(tmp_path / "model", weights, eos_token_id=[END, ord("d")]))
    (answer,) = answers_of(session, "a")
    assert (answer.text, answer.finish_reason, answer.completion_tokens) == ("bc", "stop", 3)
    (longer,) = answers_of(session, "a", ignore_eos=True, max_tokens=4)
    assert (longer.finish_reason, longer.completion_tokens) == ("length", 4)


def test_failure_of_graph_fails_its_answers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = load_folder(write_decoder(tmp_path / "model"))

    def fail(*_: Any) -> None:
        raise RuntimeError("no more memory")

    with monkeypatch.context() as patched:
        patched.setattr(DecoderGraph, "compute", fail)
        (end,) = ends_of(session, "hello")
    assert isinstance(end, ModelFailed)
    assert "no more memory" in str(end)
    assert answers_of(session, "hello", max_tokens=1)


def test_session_refuses_grammar(tmp_path: Path) -> None:
    (end,) = ends_of(load_folder(write_decoder(tmp_path / "model")), "hello", json_schema="{}")
    assert isinstance(end, InvalidRequest)
    assert "onnxruntime, which cannot restrict an answer to a grammar" in str(end)


def test_chat_is_written_by_template(tmp_path: Path) -> None:
    session, chat = load_folder(write_decoder(tmp_path / "model")), [{"role": "user", "content": "hello"}]
    (answer,) = answers_of(session, json.dumps(chat), chat=True, max_tokens=3, temperature=0)
    (same,) = answers_of(session, "<|user|>hello<|assistant|>", max_tokens=3, temperature=0)
    assert (answer.text, answer.completion_tokens) == (same.text, same.completion_tokens)
    assert answer.prompt_tokens == same.prompt_tokens == same.cached_tokens + 1 == len("hello") + 2


@pytest.mark.parametrize("kind", [GeneratorKind.DYNAMIC_INT8, GeneratorKind.FP16])
def test_converted_decoder_keeps_its_settings(tmp_path: Path, kind: GeneratorKind) -> None:
    write_decoder(tmp_path / "model", decoder_weights(counts=True))
    target = tmp_path / "converted.onnx"
    GenerateVariant(generator=kind, source=import_folder(tmp_path / "model"), target=target, calibration=None).run()
    options = LoadOptions(precision="fp32", context_tokens=64)
    session: Any = find_runtime("onnx-decoder").load(target, Hardware.CPU, options)
    (answer,) = answers_of(session, "a", temperature=0, max_tokens=5)
    assert answer.text == "bcdef"
