"""Tests of the confidence of drafts, and of documents that join language models."""

import math
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from runtimes.answer_progress import OnEnd, OnPart
from runtimes.composite import CascadeDocument, CascadeSession, ConfidenceMeasure, Stage
from runtimes.generative_cascade import GenerativeCascadeSession, is_confident, join_cascade
from runtimes.protocol import FinishedAnswer, Session, Tensors
from schemas.errors import OperatorError
from schemas.generation import GenerationOptions


def draft(
    text: str = "a", logprob: float | None = math.log(0.8), reason: Literal["stop", "length"] = "stop", tokens: int = 5
) -> FinishedAnswer:
    return FinishedAnswer(
        text=text, finish_reason=reason, prompt_tokens=3, completion_tokens=tokens, mean_logprob=logprob
    )


@pytest.mark.parametrize(
    ("made", "confident"),
    [
        (draft(), True),
        (draft(logprob=math.log(0.8) - 0.01), False),
        (draft(logprob=math.nan), False),
        (draft(logprob=None), False),
        (draft(""), False),
        pytest.param(draft(reason="length", tokens=5), True, id="cut by the query"),
        pytest.param(draft(reason="length", tokens=4), False, id="cut by the context"),
    ],
)
def test_is_confident_by_mean_probability_of_whole_text(made: FinishedAnswer, confident: bool) -> None:
    assert is_confident(made, GenerationOptions(max_tokens=5), 0.7999) is confident


class Tensor:
    """Session of tensors."""

    def infer(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        return {"scores": np.ones((len(inputs), 2))}

    def close(self) -> None: ...


class Writer(Tensor):
    """Generative session that is not used."""

    context_tokens = 7
    running = 0

    def start(self, text: str, options: GenerationOptions, on_part: OnPart, on_end: OnEnd) -> Any: ...


def document(measure: ConfidenceMeasure, count: int = 2) -> CascadeDocument:
    stage = Stage(variant="a.x.cpu", runtime="x", precision="fp32", artifact="0" * 64)
    return CascadeDocument(stages=(stage,) * count, thresholds=(0.5,) * (count - 1), output="x", measure=measure)


def test_join_cascade_by_kind_of_stages() -> None:
    assert isinstance(join_cascade(document(ConfidenceMeasure.SOFTMAX), (Tensor(), Tensor())), CascadeSession)
    joined = join_cascade(document(ConfidenceMeasure.LOGPROB), (Writer(), Writer()))
    assert isinstance(joined, GenerativeCascadeSession)
    assert joined.context_tokens == 7


@pytest.mark.parametrize(
    ("measure", "stages"),
    [
        (ConfidenceMeasure.LOGPROB, (Tensor(), Tensor())),
        (ConfidenceMeasure.LOGPROB, (Writer(), Tensor())),
        (ConfidenceMeasure.LOGPROB, (Writer(), Writer(), Writer())),
        (ConfidenceMeasure.SOFTMAX, (Writer(), Writer())),
    ],
)
def test_join_cascade_refuses_documents_that_do_not_fit(
    measure: ConfidenceMeasure, stages: tuple[Session, ...]
) -> None:
    with pytest.raises(OperatorError, match="two stages"):
        join_cascade(document(measure, len(stages)), stages)
