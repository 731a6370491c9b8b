"""Chains: the outputs of one variant are the inputs of the next, in one worker.

The data between the stages stays in the process. So a chain has one latency, one deadline and one accuracy, all
measured for the whole chain as for any variant.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.composite import ChainDocument, Feed
from runtimes.protocol import Session, Tensors


class ChainSession:
    """All stages of a chain in memory; several threads may call `infer` at once."""

    def __init__(self, document: ChainDocument, stages: Sequence[Session]) -> None:
        self._first, *self._others = stages
        self._feeds = document.feeds

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Compute one batch by all stages. Returns the outputs of the last stage.

        Raises:
            ValueError: a stage returned row numbers that the next stage's table lacks. Stages raise errors of their own
                as well.
        """
        outputs = self._first.infer(inputs)
        for stage, feeds in zip(self._others, self._feeds, strict=True):
            outputs = stage.infer({name: _fed(name, feed, outputs[feed.output]) for name, feed in feeds.items()})
        return outputs

    def close(self) -> None:
        """Free all stages; call once no thread computes with them."""
        for stage in (self._first, *self._others):
            stage.close()


def _fed(name: str, feed: Feed, array: NDArray[Any]) -> NDArray[Any]:
    """Return the array after a range check: a table look-up in a stage does not check its row numbers."""
    if feed.below is not None and array.size and not 0 <= array.min() <= array.max() < feed.below:
        raise ValueError(f"input {name} takes numbers from 0 to {feed.below - 1}, but got up to {array.max()}")
    return array
