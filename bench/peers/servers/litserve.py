"""LitServe: FastAPI in front of worker processes, connected by queues."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench.load_client.http_message import HttpRequest, RawAnswer
from bench.peers.servers.protocol import Launch, ServedFile, ServerSettings, python_command, script_environment
from bench.peers.servers.raw_bytes import raw_body, raw_output
from schemas.tensors import Array


class LitServePeer:
    """One server process, with worker processes."""

    name: ClassVar[str] = "litserve"
    requirements: ClassVar[tuple[str, ...]] = ("litserve==0.2.19",)
    light: ClassVar = ServerSettings(workers=1)
    heavy: ClassVar = ServerSettings()

    def launch(self, python: Path, served: ServedFile, settings: ServerSettings, port: int, folder: Path) -> Launch:
        """Start the script."""
        del folder
        return Launch(python_command(python, "litserve_server"), script_environment(served, settings, port))

    def request(self, inputs: Mapping[str, Array]) -> HttpRequest:
        """Post the tensors as base64 in JSON."""
        body = json.dumps({"body": base64.b64encode(raw_body(inputs)).decode()}).encode()
        return HttpRequest("/predict", {"Content-Type": "application/json"}, body)

    def output(self, answer: RawAnswer) -> Array:
        """Return the logits."""
        return raw_output(answer.body)
