"""What the bench must know of a peer: what to install, how to start it, how to ask it, and how to read its answer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import msgspec

from bench.load_client.http_message import HttpRequest, RawAnswer
from bench.peers.scripts.onnx_model import VARIABLE
from schemas.tensors import Array

CORES: Final = 2
"""Workers where each computes by itself: the peers are measured on as many cores."""
_ROOT: Final = Path(__file__).parents[3]


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that a peer is measured with."""

    workers: int = CORES
    """Processes that compute."""
    max_batch: int = 1
    batch_wait_ms: float = 0.0
    """How long a batch waits for more queries."""

    def __str__(self) -> str:
        """Say it in the words of the tables."""
        wait = f" after {self.batch_wait_ms:g} ms" if self.batch_wait_ms else ""
        batches = f", batches up to {self.max_batch}{wait}" if self.max_batch > 1 else ""
        return f"{self.workers or 'no'} worker{'' if self.workers == 1 else 's'}{batches}"


class ServedFile(msgspec.Struct, frozen=True):
    """A model file, and the tensors of one query."""

    file: Path
    inputs: Mapping[str, Array]


class Launch(msgspec.Struct, frozen=True):
    """A command, and what is added to its environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


class Peer(Protocol):
    """A server that others would pick. Its methods may be called before it is installed."""

    name: ClassVar[str]
    requirements: ClassVar[tuple[str, ...]]
    """Packages of its environment, for pip; none: it runs in ours."""
    light: ClassVar[ServerSettings]
    """Settings for a model that takes microseconds."""
    heavy: ClassVar[ServerSettings]
    """Settings for one that takes milliseconds."""

    def launch(self, python: Path, served: ServedFile, settings: ServerSettings, port: int, folder: Path) -> Launch:
        """Return how to start it on a port of this machine; it may write what it needs into the folder."""
        ...

    def request(self, inputs: Mapping[str, Array]) -> HttpRequest:
        """Return the request that asks it."""
        ...

    def output(self, answer: RawAnswer) -> Array:
        """Return the model's first output."""
        ...


def script_environment(served: ServedFile, settings: ServerSettings, port: int) -> dict[str, str]:
    """Return what one of the scripts needs in its environment."""
    fields: dict[str, Any] = {
        **msgspec.structs.asdict(settings),
        "file": str(served.file),
        "port": port,
        "inputs": [(name, array.dtype.str, array.shape[1:]) for name, array in served.inputs.items()],
    }
    return {VARIABLE: json.dumps(fields), "PYTHONPATH": str(_ROOT)}


def python_command(python: Path, script: str) -> tuple[str, ...]:
    """Return the command that runs one of the scripts in an environment."""
    return (str(python), "-m", f"bench.peers.scripts.{script}")
