"""Chains: the outputs of one variant are the inputs of the next, in one worker.

Between the stages nothing leaves the process, so a chain has one latency, one deadline and one accuracy, all measured
of the whole as of any variant.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtimes.composite import ChainDocument
from runtimes.protocol import Session, Tensors


class ChainSession:
    """All stages of a chain in memory; `infer` may be called by several threads at once."""

    def __init__(self, document: ChainDocument, stages: Sequence[Session]) -> None:
        self._first, *self._others = stages
        self._feeds = document.feeds

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch by all stages; returns the outputs of the last."""
        outputs = self._first.infer(inputs)
        for stage, feed in zip(self._others, self._feeds, strict=True):
            outputs = stage.infer({name: outputs[source] for name, source in feed.items()})
        return outputs

    def close(self) -> None:
        """Free all stages once no thread computes with them any more."""
        for stage in (self._first, *self._others):
            stage.close()
