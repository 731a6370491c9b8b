"""Chains: the outputs of one variant are the inputs of the next, in one worker.

Between the stages nothing leaves the process, so a chain has one latency, one deadline and one accuracy, all measured
of the whole as of any variant.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.composite import ChainDocument, Feed
from runtimes.protocol import Session, Tensors


class ChainSession:
    """All stages of a chain in memory; `infer` may be called by several threads at once."""

    def __init__(self, document: ChainDocument, stages: Sequence[Session]) -> None:
        self._first, *self._others = stages
        self._feeds = document.feeds

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch by all stages; returns the outputs of the last.

        Raises:
            ValueError: a stage gave numbers that the next has no rows for. Stages raise errors of their own, too.
        """
        outputs = self._first.infer(inputs)
        for stage, feeds in zip(self._others, self._feeds, strict=True):
            outputs = stage.infer({name: _fed(name, feed, outputs[feed.output]) for name, feed in feeds.items()})
        return outputs

    def close(self) -> None:
        """Free all stages once no thread computes with them any more."""
        for stage in (self._first, *self._others):
            stage.close()


def _fed(name: str, feed: Feed, array: NDArray[Any]) -> NDArray[Any]:
    """The array that an input is fed with; what looks rows up in a table does not check whether they are there."""
    if feed.below is not None and array.size and not 0 <= array.min() <= array.max() < feed.below:
        raise ValueError(f"input {name} takes numbers from 0 to {feed.below - 1}, and got up to {array.max()}")
    return array
