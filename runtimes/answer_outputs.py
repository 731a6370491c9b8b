"""Whole answers of a generative variant as the tensors of `schemas.generation.OUTPUTS`, a row for each. Pure."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtimes.protocol import FinishedAnswer
from schemas.generation import TEXT_OUTPUT
from schemas.tensors import bytes_array

MEAN_LOGPROB: Final = "mean_logprob"


def answer_outputs(answers: Sequence[FinishedAnswer]) -> dict[str, NDArray[Any]]:
    """Return the outputs for answers; a mean log-probability that was not asked for is 0."""
    return {
        TEXT_OUTPUT: bytes_array([answer.text for answer in answers]),
        "finish_reason": bytes_array([answer.finish_reason for answer in answers]),
        "prompt_tokens": np.array([answer.prompt_tokens for answer in answers], np.int32),
        "completion_tokens": np.array([answer.completion_tokens for answer in answers], np.int32),
        MEAN_LOGPROB: np.array([answer.mean_logprob or 0.0 for answer in answers], np.float32),
    }
