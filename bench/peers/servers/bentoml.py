"""BentoML: Python services, served by several processes on one port."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench.load_client.http_message import HttpRequest, RawAnswer
from bench.peers.servers.protocol import Launch, ServedFile, ServerSettings, script_environment
from bench.peers.servers.raw_bytes import raw_output, raw_request
from schemas.tensors import Array


class BentoMLPeer:
    """One service whose API is a coroutine, to avoid hops between threads."""

    name: ClassVar[str] = "bentoml"
    requirements: ClassVar[tuple[str, ...]] = ("bentoml==1.4.40",)
    light: ClassVar = ServerSettings()
    heavy: ClassVar = ServerSettings()

    def launch(self, python: Path, served: ServedFile, settings: ServerSettings, port: int, folder: Path) -> Launch:
        """Serve the script's service; BentoML stores its data in the folder."""
        service = "bench.peers.scripts.bentoml_service:Service"
        command = (str(python), "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port))
        own = {"BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
        return Launch(command, script_environment(served, settings, port) | own)

    def request(self, inputs: Mapping[str, Array]) -> HttpRequest:
        """Post the tensors as raw bytes."""
        return raw_request("/predict", inputs)

    def output(self, answer: RawAnswer) -> Array:
        """Return the logits."""
        return raw_output(answer.body)
