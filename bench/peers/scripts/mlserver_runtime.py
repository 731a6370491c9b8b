"""MLServer runtime for the model: base64 text in and out."""

import base64
from typing import Any

from mlserver import MLModel  # pyright: ignore[reportMissingImports]
from mlserver.types import InferenceResponse, ResponseOutput  # pyright: ignore[reportMissingImports]

from bench.peers.scripts.onnx_model import OnnxModel, PeerSettings


class OnnxRuntimeModel(MLModel):  # pyright: ignore[reportUntypedBaseClass]
    """Model in the server's process, or in one of its workers."""

    async def load(self) -> bool:
        """Load the model."""
        self._model = OnnxModel(PeerSettings())
        return True

    async def predict(self, payload: Any) -> Any:
        """Answer one request, or a batch that MLServer made of several."""
        bodies = [base64.b64decode(text) for text in payload.inputs[0].data]
        answers = [base64.b64encode(answer).decode() for answer in self._model.answer_all(bodies)]
        output = ResponseOutput(name="logits", shape=[len(answers)], datatype="BYTES", data=answers)
        return InferenceResponse(model_name=self.name, outputs=[output])
