"""Bare program over Kafka: the lowest cost of answering through a broker."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench.load_client.http_message import HttpRequest, RawAnswer
from bench.peers.servers.protocol import Launch, ServedFile, ServerSettings, python_command, script_environment
from bench.peers.servers.raw_bytes import raw_output, raw_request
from schemas.tensors import Array


class BareKafkaPeer:
    """aiohttp, aiokafka, Apache Kafka and onnxruntime; it runs in our own environment."""

    name: ClassVar[str] = "bare-kafka"
    requirements: ClassVar[tuple[str, ...]] = ()
    light: ClassVar = ServerSettings(max_batch=16)
    heavy: ClassVar = ServerSettings(max_batch=4)

    def launch(self, python: Path, served: ServedFile, settings: ServerSettings, port: int, folder: Path) -> Launch:
        """Start the script, which starts the broker."""
        del folder
        return Launch(python_command(python, "kafka_server"), script_environment(served, settings, port))

    def request(self, inputs: Mapping[str, Array]) -> HttpRequest:
        """Post the tensors as raw bytes."""
        return raw_request("/", inputs)

    def output(self, answer: RawAnswer) -> Array:
        """Return the logits."""
        return raw_output(answer.body)
