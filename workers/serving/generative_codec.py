"""Codec of generative queries: decodes a record into the texts to answer, and encodes answers as outputs. Pure."""

import zlib
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from runtimes.answer_outputs import MEAN_LOGPROB, answer_outputs
from runtimes.processing.steps import BYTES_A_TOKEN
from runtimes.protocol import FinishedAnswer
from schemas import headers as h
from schemas.errors import InvalidRequest
from schemas.generated_answer import LOGPROBS_OUTPUT
from schemas.generation import TEXT_INPUT, GenerationOptions
from schemas.generation_options import read_options
from schemas.query import Mode
from schemas.tensors import bytes_array
from workers.serving.codec import read_request
from workers.serving.model import ServableModel
from workers.serving.pending_query import Arrays, PendingQuery
from workers.slots.answer_queue import NO_PACE

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True, eq=False)
class QueryText:
    """Text of a query that is to be answered."""

    query: PendingQuery
    number: int
    """Its place among the texts of the query."""
    text: str
    options: GenerationOptions
    offline: bool
    allow_late: bool
    deadline_s: float
    pace_s: float
    """Maximum mean seconds of a token; infinite without a need."""
    prompt_tokens: int
    """Estimated tokens of its prompt."""
    streamed: bool
    """True if the client wants the answer in parts."""

    @property
    def max_tokens(self) -> int | None:
        """Maximum tokens of its answer; None without a maximum."""
        return self.options.max_tokens

    @property
    def withheld_tokens(self) -> int:
        """Most tokens that may come without any sign: the session withholds text that may begin a stop text."""
        return max((len(stop.encode()) for stop in self.options.stop), default=0)


def decode_generation(query: PendingQuery, model: ServableModel, offset_ms: float = 0.0) -> list[QueryText]:
    """Decode the texts of a query; the arguments are those of `decode_query`.

    Raises:
        InvalidRequest: a header, a parameter or the value is wrong; the message names it.
    """
    parsed, request = read_request(query, model, offset_ms)
    needs, times = parsed.needs, model.generation_model
    options = read_options(request.parameters, max_tokens=needs.max_tokens)
    if options.logprobs is None and any(output.name == MEAN_LOGPROB for output in request.outputs):
        options = replace(options, logprobs=0)
    streamed = query.fields.get(h.STREAM, "") == "true"
    texts = [_text(value, times.profile.context_tokens) for value in request.inputs[TEXT_INPUT].reshape(-1).tolist()]
    query.parts_left = len(texts)
    query.outputs = [{}] * len(texts)
    return [
        QueryText(
            query=query,
            number=number,
            text=text,
            options=_seeded(options, query.id, number),
            offline=needs.mode is Mode.OFFLINE,
            allow_late=needs.allow_late,
            deadline_s=query.deadline_s,
            pace_s=NO_PACE if needs.tpot_ms is None else needs.tpot_ms / 1e3,
            prompt_tokens=times.prompt_tokens(len(text)),
            streamed=streamed,
        )
        for number, text in enumerate(texts)
    ]


def _text(value: bytes, context_tokens: int) -> str:
    if len(value) > (most := BYTES_A_TOKEN * context_tokens):
        raise InvalidRequest(
            f"the text has {len(value)} bytes, but this model takes at most {context_tokens} tokens, which are never "
            f"more than {most} bytes: shorten it"
        )
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"input {TEXT_INPUT} is not UTF-8: {error}") from error


def _seeded(options: GenerationOptions, query_id: str, number: int) -> GenerationOptions:
    """Return options with a seed, derived from the query, so that another worker would make the same answer."""
    if options.seed is not None:
        return options
    return replace(options, seed=zlib.crc32(f"{query_id}/{number}".encode()))


def outputs_of(answer: FinishedAnswer, options: GenerationOptions) -> Arrays:
    """Return the outputs for an answer."""
    outputs = answer_outputs([answer])
    if options.logprobs is None:
        del outputs[MEAN_LOGPROB]
    else:
        outputs[LOGPROBS_OUTPUT] = bytes_array([_encode(answer.logprobs)])
    return outputs
