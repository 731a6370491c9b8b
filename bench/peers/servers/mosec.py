"""Mosec: an HTTP server in Rust that passes batches to Python workers."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench.load_client.http_message import HttpRequest, RawAnswer
from bench.peers.servers.protocol import Launch, ServedFile, ServerSettings, python_command, script_environment
from bench.peers.servers.raw_bytes import raw_output, raw_request
from schemas.tensors import Array


class MosecPeer:
    """One stage of workers behind the server's batching."""

    name: ClassVar[str] = "mosec"
    requirements: ClassVar[tuple[str, ...]] = ("mosec==0.9.8",)
    light: ClassVar = ServerSettings(workers=2, max_batch=16)
    heavy: ClassVar = ServerSettings(max_batch=4)

    def launch(self, python: Path, served: ServedFile, settings: ServerSettings, port: int, folder: Path) -> Launch:
        """Start the script; its socket is in the folder."""
        environment = script_environment(served, settings, port)
        mosec = {"MOSEC_PORT": str(port), "MOSEC_ADDRESS": "127.0.0.1", "MOSEC_PATH": str(folder / "mosec")}
        quiet = {"MOSEC_LOG_LEVEL": "warning"}
        return Launch(python_command(python, "mosec_server"), environment | mosec | quiet)

    def request(self, inputs: Mapping[str, Array]) -> HttpRequest:
        """Post the tensors as raw bytes."""
        return raw_request("/inference", inputs)

    def output(self, answer: RawAnswer) -> Array:
        """Return the logits."""
        return raw_output(answer.body)
