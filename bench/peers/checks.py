"""Checks of the answers that a load kept: each must be the model's output for its input."""

from collections.abc import Callable, Sequence

import numpy as np

from bench.load_client.http_message import RawAnswer, SampledAnswer
from bench.peers.workloads import Workload
from schemas.tensors import Array

Check = Callable[[Sequence[SampledAnswer]], None]
"""Function that raises `RuntimeError` if an answer is wrong."""


def reference_check(workload: Workload, reference: Sequence[Array], output: Callable[[RawAnswer], Array]) -> Check:
    """Return a check that answers equal the reference outputs.

    Args:
        workload: the workload of the answers.
        reference: rows of the model's outputs for each input: computed alone, and in batches if those differ.
        output: parses an answer.
    """
    ranges = [(rows.min(axis=0, keepdims=True), rows.max(axis=0, keepdims=True)) for rows in reference]

    def check(samples: Sequence[SampledAnswer]) -> None:
        for sample in samples:
            given, (low, high) = output(sample.answer), ranges[sample.request]
            if given.shape != low.shape or not np.allclose(given, given.clip(low, high), atol=workload.tolerance):
                expected = reference[sample.request]
                raise RuntimeError(f"{workload.name}: the answer to input {sample.request} is {given}, not {expected}")

    return check
