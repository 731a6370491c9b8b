"""Checks of the answers that a load kept: each must be what the model says to the input that was asked."""

from collections.abc import Callable, Sequence

import numpy as np

from bench.load_client.http_message import RawAnswer, SampledAnswer
from bench.peers.workloads import Workload
from schemas.tensors import Array

Check = Callable[[Sequence[SampledAnswer]], None]
"""Raises `RuntimeError` if an answer is wrong."""


def reference_check(workload: Workload, reference: Sequence[Array], output: Callable[[RawAnswer], Array]) -> Check:
    """Return the check that answers are as the reference computed them, one for each of the workload's inputs."""

    def check(samples: Sequence[SampledAnswer]) -> None:
        for sample in samples:
            given, expected = output(sample.answer), reference[sample.request]
            if given.shape != expected.shape or not np.allclose(given, expected, atol=workload.tolerance):
                raise RuntimeError(f"{workload.name}: to input {sample.request} {given} was answered, not {expected}")

    return check
