"""Stand-in for a CUDA device: onnxruntime computes on the CPU in a process with this folder on its PYTHONPATH.

Environment variables control registration steps that load a model. `STAND_IN_DIES` kills their processes.
`STAND_IN_HOLDS` names a folder: each step creates a file there, named after its process id, and waits until a file `go`
exists.
"""

import os
import signal
import sys
import time
from pathlib import Path

from runtimes import catalog, cuda
from runtimes.onnx import OnnxRuntime
from runtimes.protocol import Availability, LoadOptions, Session

NAME = "stand-in GPU"


def _stand_in() -> None:
    cuda.availability = lambda: Availability(True)
    cuda.device_count = lambda: 1
    cuda.device_name = lambda index=0: NAME
    cuda.memory_total = lambda index=0: 8 << 30
    cuda.memory_used = lambda index=0: 0
    onnx = catalog.find_runtime("onnx")
    assert isinstance(onnx, OnnxRuntime)
    onnx._providers["cuda"] = "CPUExecutionProvider"  # pyright: ignore[reportPrivateUsage]
    load = OnnxRuntime.load

    def load_as_told(runtime: OnnxRuntime, artifact: Path, hardware: str, options: LoadOptions) -> Session:
        _end_as_told()
        return load(runtime, artifact, hardware, options)

    if "registry.pipeline.step_process" in sys.orig_argv:
        OnnxRuntime.load = load_as_told  # pyright: ignore[reportAttributeAccessIssue]


def _end_as_told() -> None:
    if os.environ.get("STAND_IN_DIES"):
        os.kill(os.getpid(), signal.SIGKILL)
    if folder := os.environ.get("STAND_IN_HOLDS"):
        (Path(folder) / str(os.getpid())).touch()
        while not (Path(folder) / "go").exists():
            time.sleep(0.02)


_stand_in()
