"""Ray Serve: a proxy in front of replicas, which are Ray actors."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench.load_client.http_message import HttpRequest, RawAnswer
from bench.peers.servers.protocol import Launch, ServedFile, ServerSettings, python_command, script_environment
from bench.peers.servers.raw_bytes import raw_output, raw_request
from schemas.tensors import Array


class RayServePeer:
    """One proxy, and one replica per core; batching would only add overhead."""

    name: ClassVar[str] = "ray-serve"
    requirements: ClassVar[tuple[str, ...]] = ("ray[serve]==2.60.0",)
    light: ClassVar = ServerSettings()
    heavy: ClassVar = ServerSettings()

    def launch(self, python: Path, served: ServedFile, settings: ServerSettings, port: int, folder: Path) -> Launch:
        """Start a separate Ray, with the script's deployment in it."""
        del folder
        environment = script_environment(served, settings, port) | {"RAY_USAGE_STATS_ENABLED": "0"}
        return Launch(python_command(python, "ray_app"), environment)

    def request(self, inputs: Mapping[str, Array]) -> HttpRequest:
        """Post the tensors as raw bytes."""
        return raw_request("/", inputs)

    def output(self, answer: RawAnswer) -> Array:
        """Return the logits."""
        return raw_output(answer.body)
