"""Lines of a batch: from a line of the input file to a job, and from its result to a line of an output file. Pure.

A line of the input is checked before anything is computed (`read_line`); an invalid line fails the whole batch, as at
OpenAI. The query within a line is read when it becomes a job; an invalid one is an error of that line alone.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from gateway.generation import answers_in
from gateway.jobs.outcomes import failed
from gateway.model_directory import ServedModel, ServedModels
from gateway.openai.completions import CompletionForm
from gateway.openai.embeddings import embedding_pieces, read_embedding_request, read_json, read_needs
from gateway.openai.errors import error_body
from gateway.openai.generation import read_chat_request, read_completion_request
from gateway.openai.vectors import (
    check_dimensions,
    decode_vectors,
    encode_query,
    read_inputs,
    token_ids,
    vector_output,
)
from schemas import headers as h
from schemas.errors import ErrorCode, InvalidRequest, QueryError
from schemas.jobs import JobState
from schemas.oip import EncodedMessage
from schemas.openai import EMBEDDINGS, BatchLine, EmbeddingRequest
from schemas.openai_generation import CHAT
from schemas.result import Result, error_message, parse_result
from schemas.rows.batches import BatchRow, LineReply, LineResult
from store.batches import FailedLine

_OWN_NEEDS: Final = ("latency_ms", "mode", "tenant", "allow_late")
"""Needs that are those of the batch, or without meaning for a line."""
_lines: Final = msgspec.json.Decoder(BatchLine)
_EXPIRED: Final = "batch_expired", "the completion window of the batch ended before this line was computed"
_CANCELLED: Final = "batch_cancelled", "the batch was cancelled before this line was computed"
_LOST: Final = "internal", "the answer of this line is not available any more"


class LineQuery(NamedTuple):
    """Query of a line."""

    model: ServedModel
    message: EncodedMessage
    reply: LineReply


class AnsweredLine(NamedTuple):
    """Line of an output file."""

    ok: bool
    """True if it belongs to the file of answers, false if to that of errors."""
    text: bytes
    expired: bool = False
    """True if the completion window ended before it was computed."""


def read_line(line: bytes, endpoint: str) -> BatchLine:
    """Read a line of an input file.

    Raises:
        InvalidRequest: it is invalid; the message names the field.
    """
    found: BatchLine = read_json(line, _lines)
    if found.url != endpoint:
        raise InvalidRequest(f"$.url: the endpoint of the batch is {endpoint}, not {found.url[:80]!r}")
    if "\0" in found.custom_id:
        raise InvalidRequest("$.custom_id: it contains NUL, which no database stores")
    return found


def read_query(models: ServedModels, line: BatchLine) -> LineQuery:
    """Read the query of a line.

    Raises:
        QueryError: it is invalid, or its model is unknown.
    """
    if line.url == EMBEDDINGS:
        return _read_embeddings(models, line)
    read = read_chat_request if line.url == CHAT else read_completion_request
    asked = read(bytes(line.body))
    _check_needs(asked.parameters)
    if asked.is_streamed or asked.with_logprobs:
        name = "stream" if asked.is_streamed else "logprobs"
        raise InvalidRequest(f"$.{name}: it is not offered in lines of a batch")
    model = models.find(asked.model)
    form, prompts = "chat" if asked.is_chat else "text", len(asked.prompts)
    reply = LineReply(custom_id=line.custom_id, form=form, model=asked.model, prompts=prompts)
    return LineQuery(model, asked.query(model), reply)


def _check_needs(needs: Mapping[str, object]) -> None:
    for name in _OWN_NEEDS:
        if name in needs:
            raise InvalidRequest(f"$.{name}: lines of a batch have none; their deadline is its completion window")


def _read_embeddings(models: ServedModels, line: BatchLine) -> LineQuery:
    body = bytes(line.body)
    asked = read_embedding_request(body)
    needs = read_needs(body, EmbeddingRequest.__struct_fields__)
    _check_needs(needs)
    model = models.find(asked.model)
    check_dimensions(model, asked.dimensions)
    inputs = read_inputs(asked.input)
    message = encode_query(model, inputs, needs)
    output = vector_output(model).name
    reply = LineReply(
        custom_id=line.custom_id,
        model=asked.model,
        encoding=asked.encoding_format,
        output=output,
        tokens=token_ids(inputs),
    )
    return LineQuery(model, message, reply)


def line_headers(batch: BatchRow, message: EncodedMessage) -> Mapping[str, str]:
    """Return the headers of a line's query."""
    headers = {h.CONTENT_TYPE: message.content_type, h.LATENCY_MS: f"{batch.left_s * 1e3:.0f}"}
    if message.json_length is not None:
        headers[h.JSON_LENGTH] = str(message.json_length)
    if batch.tenant:
        headers[h.TENANT] = batch.tenant
    return headers


def line_key(batch_id: str, number: int) -> bytes:
    """Return the idempotency key of a line, by which it becomes one job however often it is read."""
    return sha256(f"{batch_id}\0{number}".encode()).digest()


def failed_line(job_id: str, batch_id: str, number: int, line: BatchLine, error: QueryError) -> FailedLine:
    """Return the ended job of a line that is no valid query."""
    reply = LineReply(custom_id=line.custom_id)
    return FailedLine(failed(job_id, error), "", line_key(batch_id, number), reply)


def answered_line(result: LineResult) -> AnsweredLine:
    """Return the line of an output file for an ended job."""
    if result.state == JobState.CANCELLED:
        return AnsweredLine(False, _error_line(result.id, result.line.custom_id, *_CANCELLED))
    if result.result is None or result.result_headers is None:
        return AnsweredLine(False, _error_line(result.id, result.line.custom_id, *_LOST))
    found = parse_result({h.ID: result.id} | result.result_headers, result.result)
    error = found.error()
    if isinstance(error, QueryError):
        if error.code is ErrorCode.DEADLINE_EXCEEDED:
            return AnsweredLine(False, _error_line(result.id, result.line.custom_id, *_EXPIRED), expired=True)
        body = error_body(error.http_status, error_message(result.result), error.reason or error.code)
        return AnsweredLine(False, _response_line(result, error.http_status, orjson.Fragment(body)))
    try:
        content = _vectors(result.line, found) if result.line.form == "embeddings" else _texts(result.line, found)
    except QueryError as error:  # the other lines of the batch must not wait for it
        return AnsweredLine(False, _error_line(result.id, result.line.custom_id, error.code, str(error)))
    return AnsweredLine(True, _response_line(result, 200, orjson.Fragment(content)))


def _vectors(line: LineReply, found: Result) -> bytes:
    vectors, tokens = decode_vectors(line.output, found)
    tokens = line.tokens if tokens is None else tokens
    return b"".join(embedding_pieces(line.model, vectors, tokens, line.encoding))


def _texts(line: LineReply, found: Result) -> bytes:
    form = CompletionForm(found.id, 0, line.model, is_chat=line.form == "chat", with_logprobs=False)
    return msgspec.json.encode(form.whole(answers_in(found, line.prompts), found.variant))


def unsent_line(batch: BatchRow, number: int, text: bytes) -> AnsweredLine:
    """Return the line of the errors for a line that never became a job."""
    expired = batch.cancelled_at is None
    custom_id = read_line(text, batch.endpoint).custom_id
    return AnsweredLine(
        False, _error_line(f"{batch.id}-{number}", custom_id, *(_EXPIRED if expired else _CANCELLED)), expired
    )


def _response_line(result: LineResult, status: int, body: orjson.Fragment) -> bytes:
    response = {"status_code": status, "request_id": result.id, "body": body}
    return _text(result.id, result.line.custom_id, response, None)


def _error_line(line_id: str, custom_id: str, code: str, message: str) -> bytes:
    return _text(line_id, custom_id, None, {"code": code, "message": message})


def _text(line_id: str, custom_id: str, response: Any, error: Any) -> bytes:
    content = {"id": f"batch_req_{line_id}", "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
