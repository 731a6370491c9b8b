"""Mosec server of the model: raw bytes in and out, one stage of workers."""

from typing import Any

from mosec import Server, Worker  # pyright: ignore[reportMissingImports]

from bench.peers.scripts.onnx_model import OnnxModel, PeerSettings


class MosecModel(Worker):  # pyright: ignore[reportUntypedBaseClass]
    """Model in a worker process."""

    def __init__(self) -> None:
        super().__init__()
        settings = PeerSettings()
        self._model = OnnxModel(settings)
        self._batches = settings.max_batch > 1

    def deserialize(self, data: bytes) -> bytes:
        """Return the body unchanged."""
        return data

    def serialize(self, data: bytes) -> bytes:
        """Return the answer unchanged."""
        return data

    def forward(self, data: Any) -> Any:
        """Answer one body, or a list of them if batching is on."""
        return self._model.answer_all(data) if self._batches else self._model.answer(data)


def main() -> None:
    """Serve until stopped."""
    settings = PeerSettings()
    server = Server()
    server.append_worker(
        MosecModel,
        num=settings.workers,
        max_batch_size=settings.max_batch,
        max_wait_time=int(settings.batch_wait_ms) or 1,
    )
    server.run()


if __name__ == "__main__":
    main()
