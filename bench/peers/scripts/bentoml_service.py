"""BentoML service of the model: raw bytes in and out."""

from typing import Annotated

import bentoml  # pyright: ignore[reportMissingImports]
from bentoml.validators import ContentType  # pyright: ignore[reportMissingImports]

from bench.peers.scripts.onnx_model import OnnxModel, PeerSettings

_settings = PeerSettings()
Octets = Annotated[bytes, ContentType("application/octet-stream")]


@bentoml.service(workers=_settings.workers, traffic={"timeout": 30, "max_concurrency": 10_000})  # pyright: ignore[reportUntypedClassDecorator]
class Service:
    """Model in a worker process of the server."""

    def __init__(self) -> None:
        self._model = OnnxModel(_settings)

    @bentoml.api(route="/predict")  # pyright: ignore[reportUntypedFunctionDecorator]
    async def predict(self, body: Octets, /) -> Octets:
        """Answer one body."""
        return self._model.answer(body)
