"""MLServer: the Open Inference Protocol in Python with FastAPI, and our runtime for the model.

It reads no binary tensors over HTTP, and numbers in JSON cost several times as much as base64 text. So the requests use
base64.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from bench.load_client.http_message import HttpRequest, RawAnswer
from bench.peers.servers.protocol import Launch, ServedFile, ServerSettings, script_environment
from bench.peers.servers.raw_bytes import raw_body, raw_output
from process.ports import free_port
from schemas.tensors import Array


class MLServerPeer:
    """One server process, with worker processes for the heavy model."""

    name: ClassVar[str] = "mlserver"
    requirements: ClassVar[tuple[str, ...]] = (
        "mlserver==1.7.1",
        "uvloop==0.21.0",
    )  # workers do not start with later versions
    light: ClassVar = ServerSettings(workers=0)
    heavy: ClassVar = ServerSettings()

    def launch(self, python: Path, served: ServedFile, settings: ServerSettings, port: int, folder: Path) -> Launch:
        """Start the server on a folder with its settings."""
        self._write(folder / "settings.json", self._server_settings(settings, port))
        batching = {"max_batch_size": settings.max_batch, "max_batch_time": settings.batch_wait_ms / 1e3}
        implementation = "bench.peers.scripts.mlserver_runtime.OnnxRuntimeModel"
        model = {"name": "model", "implementation": implementation, **(batching if settings.max_batch > 1 else {})}
        self._write(folder / "model" / "model-settings.json", model)
        command = (str(python.parent / "mlserver"), "start", str(folder))
        return Launch(command, script_environment(served, settings, port))

    def _server_settings(self, settings: ServerSettings, port: int) -> dict[str, Any]:
        return {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": port,
            "grpc_port": free_port(),
            "metrics_port": free_port(),
            "parallel_workers": settings.workers,
            "gzip_enabled": False,
            "use_structured_logging": False,
        }

    def _write(self, file: Path, content: Mapping[str, Any]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))

    def request(self, inputs: Mapping[str, Array]) -> HttpRequest:
        """Post the tensors as one base64 text."""
        text = base64.b64encode(raw_body(inputs)).decode()
        tensor = {"name": "body", "shape": [1], "datatype": "BYTES", "data": [text]}
        body = json.dumps({"inputs": [tensor]}).encode()
        return HttpRequest("/v2/models/model/infer", {"Content-Type": "application/json"}, body)

    def output(self, answer: RawAnswer) -> Array:
        """Return the logits."""
        return raw_output(base64.b64decode(json.loads(answer.body)["outputs"][0]["data"][0]))
