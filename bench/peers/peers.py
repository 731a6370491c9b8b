"""The peers that are measured, each with its settings; Triton, which needs most, has a file of its own."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.load.http_message import HttpRequest, RawAnswer
from bench.peers.peer import Launch, Peer, ServedFile, ServerSettings, raw_body, raw_output, script_environment
from bench.peers.triton import TritonPeer
from process.sockets import free_port
from schemas.tensors import Array


class AiohttpPeer(Peer):
    """Bare aiohttp: two processes on one port. The cost of a web framework and onnxruntime without a model server."""

    name = "aiohttp"
    requirements = ("aiohttp==3.14.5", "uvloop==0.23.0")
    script = "aiohttp_server"


class MosecPeer(Peer):
    """Mosec: an HTTP server in Rust that passes batches to one stage of Python workers."""

    name = "mosec"
    requirements = ("mosec==0.9.8",)
    light = ServerSettings(workers=2, max_batch=16)
    heavy = ServerSettings(max_batch=4)
    script = "mosec_server"
    path = "/inference"

    def environment(self, port: int, folder: Path) -> dict[str, str]:
        """Place its socket into the folder."""
        place = {"MOSEC_PORT": str(port), "MOSEC_ADDRESS": "127.0.0.1", "MOSEC_PATH": str(folder / "mosec")}
        return {**place, "MOSEC_LOG_LEVEL": "warning"}


class MLServerPeer(Peer):
    """MLServer: the Open Inference Protocol in Python with FastAPI, and our runtime for the model.

    It reads no binary tensors over HTTP, and numbers in JSON cost several times as much as base64 text. So the requests
    use base64. It is one server process, with worker processes for the heavy model. Its web server parses HTTP in C,
    and without an endpoint for metrics there is no middleware that counts each request.
    """

    name = "mlserver"
    requirements = (
        "mlserver==1.7.1",  # the last release; its workers do not start on uvloop 0.22 (SeldonIO/MLServer#2286)
        "uvloop==0.21.0",
        "httptools==0.9.0",  # MLServer does not require it; uvicorn uses it if it is there, and h11 in Python otherwise
    )
    light = ServerSettings(workers=0)

    def launch(self, python: Path, served: ServedFile, settings: ServerSettings, port: int, folder: Path) -> Launch:
        """Start the server on a folder with its settings."""
        server = {
            "debug": False, "host": "127.0.0.1", "http_port": port, "grpc_port": free_port(),
            "metrics_endpoint": None, "parallel_workers": settings.workers, "gzip_enabled": False,
            "use_structured_logging": False,
        }  # fmt: skip
        model: dict[str, Any] = {
            "name": "model",
            "implementation": "bench.peers.scripts.mlserver_runtime.OnnxRuntimeModel",
        }
        if settings.max_batch > 1:
            model |= {"max_batch_size": settings.max_batch, "max_batch_time": settings.batch_wait_ms / 1e3}
        (folder / "model").mkdir(parents=True)
        (folder / "settings.json").write_text(json.dumps(server))
        (folder / "model" / "model-settings.json").write_text(json.dumps(model))
        command = (str(python.parent / "mlserver"), "start", str(folder))
        return Launch(command, script_environment(served, settings, port))

    def request(self, inputs: Mapping[str, Array]) -> HttpRequest:
        """Post the tensors as one base64 text."""
        text = base64.b64encode(raw_body(inputs)).decode()
        tensor = {"name": "body", "shape": [1], "datatype": "BYTES", "data": [text]}
        body = json.dumps({"inputs": [tensor]}).encode()
        return HttpRequest("/v2/models/model/infer", {"Content-Type": "application/json"}, body)

    def output(self, answer: RawAnswer) -> Array:
        """Return the logits."""
        return raw_output(base64.b64decode(json.loads(answer.body)["outputs"][0]["data"][0]))


class LitServePeer(Peer):
    """LitServe: FastAPI in front of worker processes, connected by queues."""

    name = "litserve"
    requirements = ("litserve==0.2.19",)
    light = ServerSettings(workers=1)
    script = "litserve_server"

    def request(self, inputs: Mapping[str, Array]) -> HttpRequest:
        """Post the tensors as base64 in JSON."""
        body = json.dumps({"body": base64.b64encode(raw_body(inputs)).decode()}).encode()
        return HttpRequest("/predict", {"Content-Type": "application/json"}, body)


class BentoMLPeer(Peer):
    """BentoML: one service, served by several processes on one port; its API is a coroutine, to avoid thread hops."""

    name = "bentoml"
    requirements = ("bentoml==1.4.40",)
    path = "/predict"

    def launch(self, python: Path, served: ServedFile, settings: ServerSettings, port: int, folder: Path) -> Launch:
        """Serve the script's service; BentoML stores its data in the folder."""
        service = "bench.peers.scripts.bentoml_service:Service"
        command = (str(python), "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port))
        own = {"BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
        return Launch(command, script_environment(served, settings, port) | own)


class RayServePeer(Peer):
    """Ray Serve: a proxy in front of replicas, one Ray actor per core; batching would only add overhead."""

    name = "ray-serve"
    requirements = ("ray[serve]==2.60.0",)
    script = "ray_app"

    def environment(self, port: int, folder: Path) -> dict[str, str]:
        """Start a separate Ray, with the script's deployment in it."""
        del port, folder
        return {"RAY_USAGE_STATS_ENABLED": "0"}


class BareKafkaPeer(Peer):
    """Bare program over Kafka in our own environment: the lowest cost of answering through a broker.

    It is aiohttp, aiokafka, Apache Kafka, which the script starts, and onnxruntime.
    """

    name = "bare-kafka"
    requirements = ()
    light = ServerSettings(max_batch=16)
    heavy = ServerSettings(max_batch=4)
    script = "kafka_server"


_ALL: Final[tuple[Peer, ...]] = (
    TritonPeer(),
    AiohttpPeer(),
    MosecPeer(),
    MLServerPeer(),
    LitServePeer(),
    BentoMLPeer(),
    RayServePeer(),
    BareKafkaPeer(),
)
PEERS: Final[dict[str, Peer]] = {peer.name: peer for peer in _ALL}
