"""Serves the model with Mosec: raw bytes in and out, one stage of workers."""

from typing import Any

from mosec import Server, Worker  # pyright: ignore[reportMissingImports]

from bench.peers.scripts.onnx_model import OnnxModel, PeerSettings


class MosecModel(Worker):  # pyright: ignore[reportUntypedBaseClass]
    """The model in a worker process."""

    def __init__(self) -> None:
        super().__init__()
        settings = PeerSettings()
        self._model = OnnxModel(settings)
        self._batches = settings.max_batch > 1

    def deserialize(self, data: bytes) -> bytes:
        """Leave the body as it is."""
        return data

    def serialize(self, data: bytes) -> bytes:
        """Leave the answer as it is."""
        return data

    def forward(self, data: Any) -> Any:
        """Answer one body, or a list of them where batches are made."""
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
