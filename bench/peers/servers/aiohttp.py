"""Bare aiohttp: the cost of a web framework and onnxruntime without a model server."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench.load_client.http_message import HttpRequest, RawAnswer
from bench.peers.servers.protocol import Launch, ServedFile, ServerSettings, python_command, script_environment
from bench.peers.servers.raw_bytes import raw_output, raw_request
from schemas.tensors import Array


class AiohttpPeer:
    """Two processes that share a port by SO_REUSEPORT."""

    name: ClassVar[str] = "aiohttp"
    requirements: ClassVar[tuple[str, ...]] = ("aiohttp==3.14.5", "uvloop==0.23.0")
    light: ClassVar = ServerSettings()
    heavy: ClassVar = ServerSettings()

    def launch(self, python: Path, served: ServedFile, settings: ServerSettings, port: int, folder: Path) -> Launch:
        """Start the script."""
        del folder
        return Launch(python_command(python, "aiohttp_server"), script_environment(served, settings, port))

    def request(self, inputs: Mapping[str, Array]) -> HttpRequest:
        """Post the tensors as raw bytes."""
        return raw_request("/", inputs)

    def output(self, answer: RawAnswer) -> Array:
        """Return the logits."""
        return raw_output(answer.body)
