"""Triton: its server binary and its Python backend, taken from the wheel `nvidia-pytriton`.

The wheel's own Python, a proxy in front of the backend, is not used: it does not run on Python 3.11, and adds a hop.
The backend's stub links to the interpreter's shared library, which the loader must find. It ignores PYTHONPATH, so the
model's file sets the path itself.
"""

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.load.http_message import HttpRequest, RawAnswer, infer_output, infer_request
from bench.peers.peer import Launch, Peer, ServedFile, ServerSettings, script_environment
from schemas.oip import encode_request
from schemas.tensors import Array, datatype_of

_STUB: Final = "triton_python_backend_stub"
_PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_MODEL: Final = """\
import os
import sys

sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)

from bench.peers.scripts.triton_model import TritonPythonModel
"""
_CONFIG: Final = """\
backend: "python"
max_batch_size: {max_batch}
{inputs}
output [{{ name: "logits" data_type: TYPE_FP32 dims: [-1] }}]
instance_group [{{ kind: KIND_CPU count: {workers} }}]
{batching}
"""


class TritonPeer(Peer):
    """One server with one instance of the model per worker, each a process of the backend."""

    name = "triton"
    requirements = ("nvidia-pytriton==0.5.14",)
    light = ServerSettings(max_batch=16)
    heavy = ServerSettings(max_batch=4)

    def launch(self, python: Path, served: ServedFile, settings: ServerSettings, port: int, folder: Path) -> Launch:
        """Start the server on a model repository of one model."""
        packages = python.parent.parent / "lib" / f"python{_PYTHON}" / "site-packages"
        server = packages / "pytriton" / "tritonserver"
        model = folder / "models" / "model"
        (model / "1").mkdir(parents=True)
        (model / "config.pbtxt").write_text(_config(served, settings))
        (model / "1" / "model.py").write_text(_MODEL)
        self._place_stub(server)
        flags = {
            "model-repository": folder / "models",
            "backend-directory": server / "backends",
            "http-address": "127.0.0.1",
            "http-port": port,
            "allow-grpc": "false",
            "allow-metrics": "false",
            "log-info": "false",
        }
        command = (str(server / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in flags.items()))
        environment = script_environment(served, settings, port)
        libraries = (packages / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR"))
        return Launch(
            command,
            environment
            | {
                "PYTHONPATH": f"{environment['PYTHONPATH']}{os.pathsep}{packages}",
                "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
            },
        )

    def _place_stub(self, server: Path) -> None:
        """Link the stub of our Python version to the place where the backend expects it."""
        place = server / "backends" / "python" / _STUB
        place.unlink(missing_ok=True)
        place.symlink_to(server / "python_backend_stubs" / _PYTHON / _STUB)

    def request(self, inputs: Mapping[str, Array]) -> HttpRequest:
        """Post the tensors in the protocol's binary extension, as for our system."""
        return infer_request("model", encode_request(inputs))

    def output(self, answer: RawAnswer) -> Array:
        """Return the logits."""
        return infer_output(answer)


def _config(served: ServedFile, settings: ServerSettings) -> str:
    """Return the model's configuration; its shapes omit the batch dimension."""
    inputs = "\n".join(
        f'input [{{ name: "{name}" data_type: TYPE_{datatype_of(array)} dims: {list(array.shape[1:])} }}]'
        for name, array in served.inputs.items()
    )
    wait_us = int(1000 * settings.batch_wait_ms)
    batching = f"dynamic_batching {{ max_queue_delay_microseconds: {wait_us} }}" if settings.max_batch > 1 else ""
    return _CONFIG.format(max_batch=settings.max_batch, workers=settings.workers, inputs=inputs, batching=batching)
