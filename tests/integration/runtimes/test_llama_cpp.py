"""Tests of llama.cpp as a runtime, beyond those of all generative sessions."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest, ModelFailed
from schemas.hardware import Hardware
from tests.gguf_models import write_gguf
from tests.integration.runtimes.engines import answers_of, ends_of, load_llama_cpp


def test_json_schema_shapes_answer(tmp_path: Path) -> None:
    schema = json.dumps({"enum": ["one", "two"]})
    chat = json.dumps([{"role": "user", "content": [{"type": "text", "text": "hello"}]}])
    for text, options in (("hello", {}), (chat, {"chat": True})):
        (answer,) = answers_of(load_llama_cpp(tmp_path), text, json_schema=schema, max_tokens=150, **options)
        assert json.loads(answer.text) in ("one", "two")


def test_session_refuses_schema_that_is_no_object(tmp_path: Path) -> None:
    (end,) = ends_of(load_llama_cpp(tmp_path), "a", json_schema="1")
    assert isinstance(end, InvalidRequest)
    assert "json_schema must be a JSON object" in str(end)


def test_prompt_that_begins_alike_is_computed_from_there(tmp_path: Path) -> None:
    session, question = load_llama_cpp(tmp_path, sequences=1), "the question that others ask, too: "
    first, again, other = (
        answers_of(session, text, max_tokens=2)[0] for text in (question + "one", question + "two", "nothing alike")
    )
    assert max(first.cached_tokens, other.cached_tokens) <= 1, "at most the token that begins each prompt"
    assert again.prompt_tokens > again.cached_tokens >= len(question)


def test_http_of_engine_needs_key(tmp_path: Path) -> None:
    server: Any = vars(load_llama_cpp(tmp_path))["_server"]
    body = json.dumps({"prompt": "a", "max_tokens": 1}).encode()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(urllib.request.Request(f"{server.listening_address}/completion", data=body), timeout=30)


def test_load_refuses_damaged_model(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[:-100_000])
    with pytest.raises(ModelFailed, match=r"llama\.cpp cannot load the model"):
        find_runtime("llama.cpp").load(file, Hardware.CPU, LoadOptions(precision="fp16", max_batch=1))
