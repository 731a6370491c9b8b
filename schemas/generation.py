"""Generative tasks: their signature, the options of a query, the parts of an answer, and the profile of a variant.

A generative task has one input, a text, and answers with a text that is made token by token. The sampling options of a
query are parameters of its Open Inference Protocol request. Its needs are in its headers, like those of every query.

An answer that the client wants as it is made comes in parts, each with the header `infaas-part: <attempt> <number>`.
The number counts from 0 within an attempt. The attempt is a random name, since a query may be computed again after a
crash. The result itself is an ordinary one, with the whole text, and comes after the parts.
"""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from schemas.signature import TensorSpec

TEXT_INPUT: Final = "text_input"
TEXT_OUTPUT: Final = "text_output"
COMPLETION_TOKENS: Final = "completion_tokens"

INPUTS: Final = (TensorSpec(name=TEXT_INPUT, datatype="BYTES", shape=(-1,)),)
"""A prompt, or a chat as a JSON list of OpenAI's messages if the option `chat` is true."""
OUTPUTS: Final = (
    TensorSpec(name=TEXT_OUTPUT, datatype="BYTES", shape=(-1,)),
    TensorSpec(name="finish_reason", datatype="BYTES", shape=(-1,)),
    TensorSpec(name="prompt_tokens", datatype="INT32", shape=(-1,)),
    TensorSpec(name=COMPLETION_TOKENS, datatype="INT32", shape=(-1,)),
    TensorSpec(name="mean_logprob", datatype="FP32", shape=(-1,)),
)


def makes_text(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Return true if these are the inputs and outputs of a generative task."""
    is_text = len(inputs) == 1 and inputs[0].name == TEXT_INPUT  # nearly all queries end here
    return is_text and any(spec.name == TEXT_OUTPUT for spec in outputs)


FinishReason = Literal["stop", "length"]


class GenerationOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Options of one query, by their names as request parameters."""

    chat: bool = False
    """True: the input is a chat, which the model's template turns into a prompt."""
    max_tokens: int | None = None
    """Maximum tokens of the answer; None: as many as the context has room for."""
    temperature: float = 1.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    top_k: int = 0
    """0: no limit."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    """Seed of the sampling; None: one that is derived from the query's id, so that a second attempt repeats it."""
    stop: str | list[str] = []
    """Texts that end the answer, and are not part of it; over gRPC a JSON list."""
    json_schema: str = ""
    """JSON Schema that the answer obeys; `{}`: any JSON object; empty: no limit."""
    logprobs: int | None = None
    """Number of alternatives whose log-probabilities each token states; None: no log-probabilities at all, and the
    result lacks `mean_logprob` unless the query names that output."""
    ignore_eos: bool = False
    """True: the answer goes on to `max_tokens`, as measurements need it."""


class TokenLogprob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Log-probability of one token of an answer."""

    token: str
    logprob: float
    top: list[tuple[str, float]] = []
    """The likeliest tokens in its place, with their log-probabilities."""


class AnswerPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Value of a part, in JSON: what the answer grew by."""

    text: str
    tokens: int
    """Number of new tokens, whose text may come with a later part; 0: a piece of the prompt was computed."""
    logprobs: list[TokenLogprob] = []
    index: int = 0
    """Place of its text among those of the query; each has attempts of its own."""


class PrefillTime(msgspec.Struct, frozen=True, gc=False):
    """Measurement of the computation of a prompt, in seconds."""

    tokens: int
    p50_s: float
    p99_s: float


class StepTime(msgspec.Struct, frozen=True, gc=False):
    """Measurement of one step, which makes one token of each of `sequences` answers, in seconds."""

    sequences: int
    p50_s: float
    p99_s: float


class GenerationProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements of a generative variant on its hardware."""

    context_tokens: int
    """Maximum tokens of prompt and answer together."""
    sequences: int
    """Answers that one instance makes at once."""
    prefill: tuple[PrefillTime, ...]
    """By length of the prompt, the shortest first."""
    step: tuple[StepTime, ...]
    """By answers at once, the fewest first."""
    prompt_tokens: int
    """Tokens of a typical prompt: the median of the labelled data."""
    answer_tokens: int
    """Tokens of a typical answer: the median of its answers to prompts of the labelled data."""
    bytes_per_token: float
    """Bytes of text that a token stands for, from the labelled data."""
    draft: "GenerationProfile | None" = None
    """For a cascade: measurements of its first stage, whose answer is held back until its confidence is known. All
    others but the typical answer are those of the second stage."""
    escalated: float = 1.0
    """Share of the answers that the second stage makes."""
