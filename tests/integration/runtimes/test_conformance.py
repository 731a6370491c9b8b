"""Tests that every available runtime must pass; a runtime that is not available names the reason.

The torch runtimes run where torch is installed (`make test-torch`), the others everywhere else.
"""

import gc
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from process.memory import trim_memory
from registry.pipeline.generators.torch import compile_ahead
from runtimes.catalog import all_runtimes, find_runtime
from runtimes.composite import CompositeRuntime
from runtimes.protocol import LoadOptions, Session
from runtimes.torch.exported_archive import make_safe
from runtimes.torch.program import import_torch
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from tests.waiting import PATIENCE_S

WIDTH, CLASSES, LANES = 1024, 1024, 2
WEIGHTS: NDArray[np.float32] = np.random.default_rng(0).normal(0, 0.02, (WIDTH, CLASSES)).astype(np.float32)
OPTIONS = LoadOptions(precision="fp32", threads=1, lanes=LANES, max_batch=16)
AHEAD_OF_TIME = pytest.param("torch-aot", marks=pytest.mark.needs_torch)
"""The runtime that does not release its memory: see `runtimes/torch/aot.py`."""
RUNTIMES = (
    "onnx",
    "openvino",
    *(pytest.param(name, marks=pytest.mark.needs_torch) for name in ("torch-eager", "torch-compile")),
    AHEAD_OF_TIME,
)

SINGLE = [runtime.name for runtime in all_runtimes() if not isinstance(runtime, CompositeRuntime)]
"""Runtimes that load a model themselves; composite runtimes have tests of their own."""

every_runtime = pytest.mark.parametrize("name", RUNTIMES)


def an_onnx_file(folder: Path) -> Path:
    """Write an ONNX model of `scores = x W`."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["scores"])]
    graph = helper.make_graph(nodes, "product", [x], [scores], [numpy_helper.from_array(WEIGHTS, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "product.onnx")
    return folder / "product.onnx"


def a_program(folder: Path) -> Path:
    """Write the same model, exported by torch and made safe."""
    torch = import_torch()

    class Product(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.from_numpy(WEIGHTS.copy()), requires_grad=False)

        def forward(self, x: Any) -> Any:
            return x @ self.w

    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(Product().eval(), (torch.randn(2, WIDTH),), dynamic_shapes={"x": {0: batch}})
    torch.export.save(exported, folder / "program.pt2")
    make_safe(folder / "program.pt2", folder / "safe", ["scores"])
    return folder / "safe"


def a_compiled_program(folder: Path) -> Path:
    compile_ahead(a_program(folder), folder / "compiled.generated", Hardware.CPU)
    return folder / "compiled.generated"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that returns the model in a runtime's format; each format is written once."""
    made: dict[Callable[[Path], Path], Path] = {}

    def make(name: str) -> Path:
        maker = a_compiled_program if name == "torch-aot" else a_program if "torch" in name else an_onnx_file
        if maker not in made:
            made[maker] = maker(tmp_path_factory.mktemp("artifact"))
        return made[maker]

    return make


Artifact = Callable[[str], Path]


def rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((count, WIDTH), dtype=np.float32)


def load(name: str, file: Path) -> Session:
    return find_runtime(name).load(file, Hardware.CPU, OPTIONS)


@every_runtime
def test_runtime_result_is_independent_of_batch_size(name: str, artifact: Artifact) -> None:
    session = load(name, artifact(name))
    for count in (16, 1, 7):
        x = rows(count)
        scores = session.infer({"x": x, "not taken": x})["scores"]
        assert (scores.dtype, scores.shape) == (np.float32, (count, CLASSES))
        assert np.allclose(scores, x @ WEIGHTS, atol=1e-3)
        alone = session.infer({"x": x[-1:]})["scores"]
        assert np.allclose(alone, scores[-1:], atol=1e-4)


@every_runtime
def test_runtime_leaves_earlier_results_unchanged(name: str, artifact: Artifact) -> None:
    session = load(name, artifact(name))
    frozen = np.frombuffer(rows(2).tobytes(), np.float32).reshape(2, WIDTH)  # a read-only array
    first = session.infer({"x": frozen})["scores"]
    kept = first.copy()
    session.infer({"x": rows(2, seed=1)})
    assert np.array_equal(first, kept)


@every_runtime
def test_concurrent_runtime_computes_in_threads(name: str, artifact: Artifact) -> None:
    session = load(name, artifact(name))
    batches = [rows(1 + seed % 5, seed) for seed in range(40)]

    def compute(x: NDArray[np.float32]) -> NDArray[Any]:
        return session.infer({"x": x})["scores"]

    with ThreadPoolExecutor(LANES if find_runtime(name).concurrent else 1) as threads:
        found = list(threads.map(compute, batches))
    for x, scores in zip(batches, found, strict=True):
        assert np.allclose(scores, x @ WEIGHTS, atol=1e-3)


@every_runtime
def test_runtime_releases_gil_while_computing(name: str, artifact: Artifact) -> None:
    """Otherwise a worker could not read, answer, or use another core while a batch is computed."""
    session, x = load(name, artifact(name)), rows(64)
    session.infer({"x": x})
    before, until = sys.getswitchinterval(), time.monotonic() + PATIENCE_S
    # from here on, a computing thread is interrupted only where it releases the lock itself
    sys.setswitchinterval(60.0)
    try:
        while turns_of_another(session, x) <= 10:  # retries: on a busy machine this thread may get no core
            assert time.monotonic() < until, "it keeps the lock while it computes"
    finally:
        sys.setswitchinterval(before)


def turns_of_another(session: Session, x: NDArray[np.float32]) -> int:
    """Count how often this thread gets the interpreter lock while another thread computes a batch."""
    begun, ended, turns = Event(), Event(), 0

    def compute() -> None:
        begun.set()
        session.infer({"x": x})
        ended.set()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(compute)
        begun.wait()
        while not ended.is_set():
            turns += 1
            time.sleep(0)
    return turns


@every_runtime
def test_closed_session_does_not_affect_another(name: str, artifact: Artifact) -> None:
    one, other = load(name, artifact(name)), load(name, artifact(name))
    one.infer({"x": rows(1)})
    one.close()
    assert np.allclose(other.infer({"x": rows(3)})["scores"], rows(3) @ WEIGHTS, atol=1e-3)


@pytest.mark.parametrize("name", [one for one in RUNTIMES if one is not AHEAD_OF_TIME])
def test_closed_session_releases_memory(name: str, artifact: Artifact) -> None:
    file, process = artifact(name), psutil.Process()
    load(name, file).close()
    gc.collect()
    trim_memory()
    before = process.memory_info().rss
    for _ in range(8):
        load(name, file).close()
        gc.collect()
    trim_memory()
    assert process.memory_info().rss - before < 4 * WEIGHTS.nbytes


@every_runtime
@pytest.mark.parametrize(
    "wrong", [rows(2).astype(np.float64), rows(2)[:, :-1], rows(2)[0]], ids=["dtype", "width", "rank"]
)
def test_wrong_input_raises_and_session_continues(name: str, wrong: NDArray[Any], artifact: Artifact) -> None:
    session = load(name, artifact(name))
    with pytest.raises(Exception, match=r"\w+ \w+"):  # the type depends on the library
        session.infer({"x": wrong})
    assert session.infer({"x": rows(1)})["scores"].shape == (1, CLASSES)


@every_runtime
def test_invalid_model_file_raises(name: str, tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(b"PK\x03\x04 no model at all")
    with pytest.raises(Exception, match=r"\w+ \w+"):
        load(name, tmp_path / "garbage")


@pytest.mark.parametrize("hardware", list(Hardware))
@pytest.mark.parametrize("name", SINGLE)
def test_unavailable_runtime_names_reason(name: str, hardware: Hardware, tmp_path: Path) -> None:
    runtime = find_runtime(name)
    answer = runtime.availability(hardware)
    if hardware not in runtime.hardware:
        assert answer.reason == f"runtime {name} does not run on {hardware}"
    if answer.available:
        assert (hardware in runtime.hardware, answer.reason) == (True, "")
        return
    assert answer.reason
    with pytest.raises(OperatorError) as refusal:
        runtime.load(tmp_path / "absent", hardware, OPTIONS)
    assert str(refusal.value) == answer.reason
