"""Tests of the lines of a batch: their checks, and their answers."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway.jobs.outcomes import failed, too_late
from gateway.model_directory import ModelDirectory
from gateway.openai.batch_files import check_file, read_lines
from gateway.openai.lines import AnsweredLine, answered_line, read_line, read_query
from schemas import headers as h
from schemas.errors import InvalidRequest, ModelFailed, QueryError
from schemas.oip import decode_request, encode_response
from schemas.openai import MOST_LINES, BatchLine
from schemas.rows.batches import LineReply, LineResult
from schemas.tensors import bytes_array
from tests.generative_tasks import catalog_of_writer
from tests.openai_tasks import catalog_of_encoder, encoded, vector_of

ENDPOINT = "/v1/embeddings"
MODELS = ModelDirectory(catalog_of_encoder("sentences")).seen_by(None)
MOST = 1000


def a_line(custom_id: str = "a", /, **body: Any) -> bytes:
    content = {"model": "sentences", "input": "one two"} | body
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": content}).encode()


def written(folder: Path, content: bytes) -> Path:
    (folder / "input.jsonl").write_bytes(content)
    return folder / "input.jsonl"


def content_of(line: AnsweredLine) -> Any:
    assert line.text.endswith(b"\n")
    return json.loads(line.text)


def test_read_lines_continues_where_it_stopped(tmp_path: Path) -> None:
    lines = [a_line(str(number)) for number in range(450)]
    file = written(tmp_path, b"\n\n".join(lines))
    found, position = list[bytes](), 0
    while (part := read_lines(file, position, MOST)).lines:
        assert len(part.lines) <= 200
        found += [line.rstrip() for line in part.lines]
        position = part.position
    assert found == lines
    assert position == file.stat().st_size


@pytest.mark.parametrize(
    ("content", "lines", "codes"),
    [
        (b"", 0, ["empty_file"]),
        (b"\n \n", 0, ["empty_file"]),
        (a_line("a") + b"\n" + a_line("b"), 2, []),
        (a_line("a") + b"\n" + a_line("a"), 2, ["invalid_request"]),
        (a_line("a", input="x" * MOST), 2, ["invalid_request", "invalid_request"]),
        (b"\xff\n", 1, ["invalid_request"]),
        (b"{}\n" * 150, 150, ["invalid_request"] * 100),
        (b"\n".join(a_line(str(number)) for number in range(MOST_LINES + 1)), MOST_LINES + 1, ["too_many_lines"]),
    ],
    ids=["empty", "blank", "good", "repeated", "long", "binary", "many-errors", "many-lines"],
)
def test_check_file_reports_errors_of_lines(tmp_path: Path, content: bytes, lines: int, codes: list[str]) -> None:
    found = check_file(written(tmp_path, content), ENDPOINT, MOST)
    assert [error.code for error in found.errors] == codes
    assert found.total == lines


def test_read_query_reads_model_form_and_needs() -> None:
    found = read_query(MODELS, read_line(a_line(encoding_format="base64", min_accuracy=0.5), ENDPOINT))
    assert found.model.name == "sentences"
    assert found.reply == LineReply(custom_id="a", model="sentences", encoding="base64", output="embedding")


@pytest.mark.parametrize("need", ["latency_ms", "mode", "tenant", "allow_late"])
def test_read_query_refuses_needs_of_the_batch(need: str) -> None:
    fields: dict[str, Any] = {need: 1}
    with pytest.raises(InvalidRequest, match=rf"\$\.{need}: lines of a batch have none"):
        read_query(MODELS, read_line(a_line(**fields), ENDPOINT))


WRITERS = ModelDirectory(catalog_of_writer("text")).seen_by(None)


def a_chat_line(url: str = "/v1/chat/completions", **body: Any) -> BatchLine:
    asked = {"messages": [{"role": "user", "content": "hi"}]} if "chat" in url else {"prompt": ["a", "b"]}
    content = {"model": "text"} | asked | body
    return read_line(json.dumps({"custom_id": "a", "method": "POST", "url": url, "body": content}).encode(), url)


@pytest.mark.parametrize(("url", "form"), [("/v1/chat/completions", "chat"), ("/v1/completions", "text")])
def test_answered_line_has_texts_of_a_generative_task(url: str, form: str) -> None:
    found = read_query(WRITERS, a_chat_line(url, max_tokens=3, min_accuracy=0.5))
    assert (found.reply.form, found.reply.prompts) == (form, 1 if form == "chat" else 2)
    assert decode_request(found.message.value).parameters["max_tokens"] == 3
    texts = ["yes", "no"][: found.reply.prompts]
    outputs = {"text_output": bytes_array(texts), "completion_tokens": np.full(len(texts), 2, np.int32)}
    message = encode_response("v", "1", outputs)
    result = LineResult(
        id="1", state="done", line=found.reply, result_headers={h.STATUS: "ok"}, result=message.value
    )  # fmt: skip
    body = content_of(answered_line(result))["response"]["body"]
    written = [one["message"]["content"] if form == "chat" else one["text"] for one in body["choices"]]
    assert (written, body["usage"]["completion_tokens"]) == (texts, 2 * len(texts))


@pytest.mark.parametrize("fields", [{"stream": True}, {"logprobs": True}, {"latency_ms": 5}, {"tools": [1]}])
def test_read_query_refuses_fields_that_lines_do_not_have(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        read_query(WRITERS, a_chat_line(**fields))


def test_read_line_refuses_unprintable_ids() -> None:
    """Postgres stores no NUL: a line with one would fail when it becomes a job, together with jobs of others."""
    with pytest.raises(InvalidRequest, match=r"\$\.custom_id"):
        read_line(a_line("a\0"), ENDPOINT)
    line = a_line().replace(b"/v1/embeddings", b"/v1\\u0000")
    with pytest.raises(InvalidRequest, match=r"\$\.url") as raised:
        read_line(line, ENDPOINT)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("field", [b'"mode": "\xff"', b'"\xff": 1', b'"user": "\xff"'])
def test_read_query_refuses_what_is_no_utf_8(field: bytes) -> None:
    line = a_line().replace(b'"model"', field + b', "model"')
    with pytest.raises(InvalidRequest):
        read_query(MODELS, read_line(line, ENDPOINT))


def test_answered_line_has_the_vectors() -> None:
    query = read_query(MODELS, read_line(a_line(), ENDPOINT))
    value, headers = encoded({h.JSON_LENGTH: str(query.message.json_length)}, query.message.value)
    line = answered_line(LineResult(id="j", state="succeeded", line=query.reply, result_headers=headers, result=value))
    found = content_of(line)
    assert (line.ok, line.expired, found["id"], found["custom_id"], found["error"]) == (
        True,
        False,
        "batch_req_j",
        "a",
        None,
    )
    assert found["response"]["body"]["data"][0]["embedding"] == pytest.approx(vector_of("one two"))
    assert found["response"]["body"]["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(ModelFailed("it failed"), 500, "model_failed"), (InvalidRequest("$.input: no"), 400, "invalid_request")],
)
def test_answered_line_has_the_error(error: QueryError, status: int, code: str) -> None:
    end = failed("j", error)
    reply = LineReply(custom_id="a")
    line = answered_line(LineResult(id="j", state="failed", line=reply, result_headers=end.headers, result=end.value))
    found = content_of(line)
    assert not line.ok
    assert found["response"]["status_code"] == status
    assert found["response"]["body"]["error"]["code"] == code
    assert found["response"]["body"]["error"]["message"] == str(error)


@pytest.mark.parametrize(
    ("state", "error", "code"),
    [("failed", too_late(), "batch_expired"), ("cancelled", None, "batch_cancelled"), ("succeeded", None, "internal")],
)
def test_answered_line_without_answer_says_why(state: str, error: QueryError | None, code: str) -> None:
    end = None if error is None else failed("j", error)
    line = answered_line(
        LineResult(
            id="j",
            state=state,
            line=LineReply(custom_id="a"),
            result_headers=end and end.headers,
            result=end and end.value,
        )
    )
    assert content_of(line)["error"]["code"] == code
    assert (line.ok, line.expired) == (False, code == "batch_expired")


def test_answered_line_of_a_useless_answer_is_an_error() -> None:
    query = read_query(MODELS, read_line(a_line(), ENDPOINT))
    value, headers = encoded({h.JSON_LENGTH: str(query.message.json_length)}, query.message.value)
    other = msgspec.structs.replace(query.reply, output="another")
    line = answered_line(LineResult(id="j", state="succeeded", line=other, result_headers=headers, result=value))
    assert (line.ok, content_of(line)["error"]["code"]) == (False, "internal")
