"""LitServe server of the model: base64 in JSON, which LitServe reads, and raw bytes out."""

import base64
from typing import Any

import litserve  # pyright: ignore[reportMissingImports]
from starlette.responses import Response

from bench.peers.scripts.onnx_model import OnnxModel, PeerSettings


class LitServeModel(litserve.LitAPI):  # pyright: ignore[reportUntypedBaseClass]
    """Model in a worker process."""

    def setup(self, device: str) -> None:
        """Load the model."""
        del device
        settings = PeerSettings()
        self._model = OnnxModel(settings)
        self._batches = settings.max_batch > 1

    def decode_request(self, request: dict[str, str]) -> bytes:
        """Decode the body of a request."""
        return base64.b64decode(request["body"])

    def batch(self, inputs: Any) -> Any:
        """Return the bodies as a list."""
        return list(inputs)

    def unbatch(self, output: Any) -> Any:
        """Return the answers unchanged."""
        return output

    def predict(self, x: Any) -> Any:
        """Answer one body, or a list of them if batching is on."""
        return self._model.answer_all(x) if self._batches else self._model.answer(x)

    def encode_response(self, output: bytes) -> Any:
        """Return the answer without JSON."""
        return Response(output)


def main() -> None:
    """Serve until stopped."""
    settings = PeerSettings()
    api = LitServeModel(max_batch_size=settings.max_batch, batch_timeout=settings.batch_wait_ms / 1e3)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=settings.workers)
    server.run(host="127.0.0.1", port=settings.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
