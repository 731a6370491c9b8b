"""Peer: its packages, its start, its requests, and its answers, for peers that a script of `scripts` serves."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import numpy as np

from bench.load.http_message import HttpRequest, RawAnswer
from bench.peers.scripts.onnx_model import VARIABLE
from schemas.tensors import Array

CORES: Final = 2
"""Number of workers of a peer whose workers compute independently; the peers are measured on as many cores."""
_ROOT: Final = Path(__file__).parents[2]


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that a peer is measured with."""

    workers: int = CORES
    """Number of processes that compute."""
    max_batch: int = 1
    batch_wait_ms: float = 0.0
    """Milliseconds that a batch waits for more queries."""

    def __str__(self) -> str:
        """Return the text for the tables."""
        wait = f" after {self.batch_wait_ms:g} ms" if self.batch_wait_ms else ""
        batches = f", batches up to {self.max_batch}{wait}" if self.max_batch > 1 else ""
        return f"{self.workers or 'no'} worker{'' if self.workers == 1 else 's'}{batches}"


class ServedFile(msgspec.Struct, frozen=True):
    """Model file, and the tensors of one query."""

    file: Path
    inputs: Mapping[str, Array]


class Launch(msgspec.Struct, frozen=True):
    """Command, and additions to its environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


class Peer:
    """Model server to compare with. Its methods may be called before it is installed.

    By default it is a script that takes and returns tensors as raw bytes, the cheapest format; subclasses differ.
    """

    name: ClassVar[str]
    requirements: ClassVar[tuple[str, ...]]
    """Packages of its environment, for pip; empty: it runs in ours."""
    light: ClassVar[ServerSettings] = ServerSettings()
    """Settings for a model that takes microseconds."""
    heavy: ClassVar[ServerSettings] = ServerSettings()
    """Settings for a model that takes milliseconds."""
    script: ClassVar[str]
    """Script that serves it."""
    path: ClassVar[str] = "/"
    """Path of its queries."""

    def launch(self, python: Path, served: ServedFile, settings: ServerSettings, port: int, folder: Path) -> Launch:
        """Return the command that starts it on a port of this machine; it may write files into the folder."""
        command = (str(python), "-m", f"bench.peers.scripts.{self.script}")
        return Launch(command, script_environment(served, settings, port) | self.environment(port, folder))

    def environment(self, port: int, folder: Path) -> dict[str, str]:
        """Return additions to the environment of the script."""
        del port, folder
        return {}

    def request(self, inputs: Mapping[str, Array]) -> HttpRequest:
        """Return the request for these inputs."""
        return HttpRequest(self.path, {"Content-Type": "application/octet-stream"}, raw_body(inputs))

    def output(self, answer: RawAnswer) -> Array:
        """Return the model's first output."""
        return raw_output(answer.body)


def raw_body(inputs: Mapping[str, Array]) -> bytes:
    """Return the concatenated bytes of the tensors."""
    return b"".join(array.tobytes() for array in inputs.values())


def raw_output(body: bytes) -> Array:
    """Return the row of logits in a script's answer."""
    return np.frombuffer(body, np.float32).reshape(1, -1)


def script_environment(served: ServedFile, settings: ServerSettings, port: int) -> dict[str, str]:
    """Return the environment variables of a script."""
    fields: dict[str, Any] = {
        **msgspec.structs.asdict(settings),
        "file": str(served.file),
        "port": port,
        "inputs": [(name, array.dtype.str, array.shape[1:]) for name, array in served.inputs.items()],
    }
    return {VARIABLE: json.dumps(fields), "PYTHONPATH": str(_ROOT)}
