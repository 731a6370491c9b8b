"""Model that a server of the bench serves, described by the environment variable `PEER_MODEL`.

A body is the concatenated raw bytes of a query's tensors. The answer is the raw bytes of the first output's row.
"""

import json
import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

VARIABLE: Final = "PEER_MODEL"
_ERRORS_ONLY: Final = 3


class PeerSettings:
    """Settings from the environment: the model file, its tensors, and the server's parameters."""

    def __init__(self) -> None:
        fields: dict[str, Any] = json.loads(os.environ[VARIABLE])
        self.file: str = fields["file"]
        self.port: int = fields["port"]
        self.workers: int = fields["workers"]
        self.max_batch: int = fields["max_batch"]
        self.batch_wait_ms: float = fields["batch_wait_ms"]
        self.inputs: list[tuple[str, str, list[int]]] = fields["inputs"]
        """Name, numpy type and shape without the batch dimension of each tensor."""


class OnnxModel:
    """Loaded model, with one thread and the precision of the file (fp32)."""

    def __init__(self, settings: PeerSettings) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        self._session: Any = onnxruntime.InferenceSession(settings.file, options, providers=["CPUExecutionProvider"])
        self._inputs = settings.inputs

    def infer(self, feed: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """Compute one batch. Returns the first output."""
        return self._session.run(None, feed)[0]

    def answer(self, body: bytes) -> bytes:
        """Answer one body."""
        return self.infer(self._feed(body)).tobytes()

    def answer_all(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Answer several bodies as one batch."""
        if len(bodies) == 1:
            return [self.answer(bodies[0])]
        feeds = [self._feed(body) for body in bodies]
        batch = {name: np.concatenate([feed[name] for feed in feeds]) for name, _kind, _shape in self._inputs}
        return [row.tobytes() for row in self.infer(batch)]

    def _feed(self, body: bytes) -> dict[str, NDArray[Any]]:
        feed: dict[str, NDArray[Any]] = {}
        at = 0
        for name, kind, shape in self._inputs:
            count = int(np.prod(shape))
            feed[name] = np.frombuffer(body, kind, count, at).reshape(1, *shape)
            at += feed[name].nbytes
        return feed
