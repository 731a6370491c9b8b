"""Answer to a query, and the parts of an answer that is made token by token."""

from typing import Any

import msgspec

from schemas.generation import TokenLogprob
from schemas.oip import decode_response
from schemas.result import Result
from schemas.tensors import Array


class Answer(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Answer to a query: its outputs, the variant and worker that computed it, and its times."""

    outputs: dict[str, Array]
    """Arrays by output name."""
    id: str
    variant: str
    worker: str
    accuracy: float | None
    """Accuracy of the variant, 0..1; None if unknown."""
    cost: float | None
    """Price in USD per 1000 such queries, or per 1000 tokens of a generative answer."""
    predicted_ms: float
    """Predicted time from the choice of the variant to the result."""
    queue_ms: float
    """Time spent in queues, before the choice and before the computation."""
    compute_ms: float
    """Computation time of the query's batch."""
    total_ms: float
    """Time from the call to the answer, as measured by the client."""
    late: bool = False
    """True if the answer came after the deadline (`latency_ms`), as judged by the system or measured by the client."""
    explanation: Any = None
    """Reasons of the choice of this variant; None unless `explain` was set."""


class TextPart(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Part of an answer as it is made; the last one has no text, but the whole answer."""

    text: str
    tokens: int = 0
    """Number of tokens of the text."""
    logprobs: list[TokenLogprob] = []
    """Log-probabilities of its tokens, if the parameter `logprobs` asks for them."""
    restarted: bool = False
    """True: the text before this part is void, and the answer begins again. It was computed twice, because of a crash,
    and without the same result. This part has no text."""
    answer: Answer | None = None
    """The whole answer, in the last part."""


def answer_of(result: Result, total_s: float, latency_s: float | None) -> Answer:
    """Return the answer in a result without an error; `total_s` is the time that its caller measured."""
    response = decode_response(result.value, result.json_length)
    return Answer(
        outputs=response.outputs,
        id=result.id,
        variant=result.variant,
        worker=result.worker,
        accuracy=result.accuracy,
        cost=result.cost,
        predicted_ms=result.predicted_ns / 1e6,
        queue_ms=(result.task_queue_ns + result.variant_queue_ns) / 1e6,
        compute_ms=result.compute_ns / 1e6,
        total_ms=total_s * 1e3,
        late=result.late or (latency_s is not None and total_s > latency_s),
        # Over HTTP the explanation is only in the response: it may be too large for a header.
        explanation=parsed_explanation(response.parameters.get("explanation", result.explanation)),
    )


def parsed_explanation(explanation: Any) -> Any:
    """Return an explanation; None if there is none."""
    if not isinstance(explanation, str):
        return explanation
    return msgspec.json.decode(explanation) if explanation else None
