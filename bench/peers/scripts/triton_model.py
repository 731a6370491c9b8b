"""Model for Triton's Python backend; Triton loads it once per instance."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.peers.scripts.onnx_model import OnnxModel, PeerSettings


class TritonPythonModel:
    """Model in a process of the backend, which requires this class name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model."""
        import triton_python_backend_utils  # pyright: ignore[reportMissingImports] - only in the backend

        del args
        self._utils: Any = triton_python_backend_utils
        settings = PeerSettings()
        self._inputs = [name for name, _kind, _shape in settings.inputs]
        self._model = OnnxModel(settings)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests of a batch together."""
        tensors = [[self._tensor(request, name) for name in self._inputs] for request in requests]
        joined = tensors[0] if len(requests) == 1 else [np.concatenate(column) for column in zip(*tensors, strict=True)]
        logits = self._model.infer(dict(zip(self._inputs, joined, strict=True)))
        ends = np.cumsum([rows[0].shape[0] for rows in tensors])[:-1]
        parts = [logits] if len(requests) == 1 else np.split(logits, ends)
        return [self._utils.InferenceResponse([self._utils.Tensor("logits", part)]) for part in parts]

    def _tensor(self, request: Any, name: str) -> Any:
        return self._utils.get_input_tensor_by_name(request, name).as_numpy()
