"""Ray Serve app of the model: raw bytes in and out, one replica per worker."""

import threading
from typing import Any

from ray import serve
from starlette.responses import Response

from bench.peers.scripts.onnx_model import OnnxModel, PeerSettings


class RayModel:
    """Model in a replica."""

    def __init__(self) -> None:
        self._model = OnnxModel(PeerSettings())

    async def __call__(self, request: Any) -> Any:
        """Answer one body."""
        return Response(self._model.answer(await request.body()))


def main() -> None:
    """Serve until stopped."""
    import ray

    settings = PeerSettings()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": settings.port})
    options = {"num_cpus": 0.5}
    deployment = serve.deployment(num_replicas=settings.workers, max_ongoing_requests=64, ray_actor_options=options)
    serve.run(deployment(RayModel).bind(), route_prefix="/")
    threading.Event().wait()


if __name__ == "__main__":
    main()
