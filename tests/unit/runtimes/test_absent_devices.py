"""Tests of runtimes for absent devices, with stand-ins for the vendors' libraries."""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from registry.pipeline.generators.torch import compile_for_neuron
from runtimes import cuda, neuron
from runtimes.catalog import find_runtime
from runtimes.cuda import CudaStream, TensorBuffer
from runtimes.protocol import Availability, LoadOptions, Session
from runtimes.tensorrt import engine_file, profile_shapes
from runtimes.torch import inferentia
from runtimes.torch.cuda_runner import CudaRunner
from schemas.errors import OperatorError
from tests.unit.runtimes.vendor_stand_ins import CudaDriver, Tensor, Torch, tensorrt

OPTIONS = LoadOptions(precision="fp16", max_batch=8)
X = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    """Return a function that makes a module importable under a name."""

    def install(name: str, content: Any) -> None:
        module = ModuleType(name)
        module.__dict__.update({key: getattr(content, key) for key in dir(content) if not key.startswith("__")})
        module.__dict__["__version__"] = getattr(content, "__version__", "0")
        module.__spec__ = sys.__spec__
        monkeypatch.setitem(sys.modules, name, module)

    return install


# -- TensorRT ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> CudaDriver:
    made = CudaDriver()

    def library(_name: str) -> CudaDriver:
        return made

    monkeypatch.setattr(ctypes, "CDLL", library)
    monkeypatch.setattr(cuda, "availability", lambda: Availability(True))
    monkeypatch.setattr(cuda, "device_name", lambda: "NVIDIA H100 80GB")
    return made


@pytest.fixture
def vendor(driver: CudaDriver, installed: Callable[[str, Any], None]) -> Any:
    module = tensorrt(driver)
    installed("tensorrt", module)
    return module


@pytest.fixture
def engine(vendor: Any, tmp_path: Path) -> Callable[[], Session]:
    (tmp_path / "abcdef").write_bytes(b"a model")
    return lambda: find_runtime("tensorrt").load(tmp_path / "abcdef", "cuda", OPTIONS)


def test_tensorrt_builds_engine_once_per_gpu_and_version(
    engine: Callable[[], Session], vendor: Any, tmp_path: Path
) -> None:
    engine()
    file = engine_file(tmp_path / "abcdef", "NVIDIA H100 80GB", "11.4.0", 8)
    assert file.name == "abcdef-b8-NVIDIA-H100-80GB-11.4.0.engine"
    engine()
    assert vendor.built == 1
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_tensorrt_session_computes_and_releases_memory(engine: Callable[[], Session], driver: CudaDriver) -> None:
    free, session = driver.free, engine()
    first = session.infer({"x": X, "not taken": X})["scores"]
    assert np.array_equal(first, X + 1)
    assert np.array_equal(session.infer({"x": X[:1] * 2})["scores"], X[:1] * 2 + 1)
    assert np.array_equal(first, X + 1), "buffers are used again, answers are not"
    session.close()
    assert (driver.free, driver.allocated, driver.streams, driver.retained) == (free, {}, 0, 0)
    with pytest.raises(OperatorError, match="closed"):
        session.infer({"x": X})


@pytest.mark.parametrize("wrong", [X.astype(np.float64), np.repeat(X, 3, axis=0), X[0]])
def test_tensorrt_session_refuses_inputs_outside_profile(
    engine: Callable[[], Session], wrong: np.ndarray[Any, Any]
) -> None:
    session = engine()
    with pytest.raises(ValueError, match="input 'x'"):
        session.infer({"x": wrong})
    assert session.infer({"x": X})["scores"].shape == (4, 3)


def test_tensorrt_reports_unreadable_model(engine: Callable[[], Session], tmp_path: Path) -> None:
    (tmp_path / "abcdef").write_bytes(b"garbage")
    with pytest.raises(OperatorError, match="cannot read the model: no model"):
        engine()


def test_tensor_buffer_releases_memory_after_failed_allocation(driver: CudaDriver) -> None:
    driver.free = 100
    buffer = TensorBuffer(CudaStream())
    with pytest.raises(MemoryError, match="out of memory"):
        buffer.reserve(80)
    buffer.close()
    assert driver.free == 100


@pytest.mark.parametrize("free", [0, 1])
def test_tensorrt_releases_stream_and_context_when_out_of_memory(
    engine: Callable[[], Session], driver: CudaDriver, free: int
) -> None:
    driver.free = free
    with pytest.raises(MemoryError, match="out of memory"):
        engine()
    assert (driver.streams, driver.retained) == (0, 0)


def test_profile_shapes_span_batches_and_bounded_lengths() -> None:
    assert profile_shapes((-1, 3, 8), 16) == ((1, 3, 8), (16, 3, 8), (16, 3, 8))
    least, typical, most = profile_shapes((-1, -1), 16)
    assert (least, most[0]) == ((1, 1), 16)
    assert least[1] < typical[1] < most[1]


# -- torch on a GPU ----------------------------------------------------------------------------------------------------
class AddOne:
    """Module that adds its inputs and whose captured calls can be replayed."""

    def __init__(self, torch: Torch) -> None:
        self.torch, self.calls = torch, 0

    def __call__(self, x: Tensor, *, other: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        result = Tensor(x.array + other.array, x.device)

        def recompute() -> None:
            result.array[...] = x.array + other.array

        self.torch.recompute = recompute
        return {"scores": result}


def test_cuda_runner_replays_graph_for_recurring_shape() -> None:
    torch = Torch()
    module = AddOne(torch)
    runner = CudaRunner(torch, module, 1, ["other"], graphs=True)
    for number in range(10):
        assert np.array_equal(runner.run([X * number, X])[0], X * number + X)
    assert (torch.captures, torch.replays, module.calls) == (1, 7, 4)
    assert np.array_equal(runner.run([X[:2], X[:2]])[0], X[:2] * 2)
    assert torch.replays == 7
    runner.close()
    assert torch.emptied == 1


def test_cuda_runner_forgets_rare_shapes() -> None:
    torch = Torch()
    runner = CudaRunner(torch, AddOne(torch), 1, ["other"], graphs=True)
    for length in range(1, 1201):
        recurs = np.zeros((1, 3 if length % 300 == 0 else length + 3), np.float32)
        runner.run([recurs, recurs])
    assert torch.captures == 0, "each was forgotten before it came again"
    for _ in range(4):
        runner.run([X, X])
    assert torch.captures == 1


def test_cuda_runner_runs_uncapturable_module_directly() -> None:
    torch = Torch(capturable=False)
    module = AddOne(torch)
    runner = CudaRunner(torch, module, 1, ["other"], graphs=True)
    frozen = np.frombuffer(X.tobytes(), np.float32).reshape(X.shape)
    for _ in range(8):
        assert np.array_equal(runner.run([frozen, X])[0], X * 2)
    assert (torch.replays, module.calls) == (0, 8)


# -- Inferentia --------------------------------------------------------------------------------------------------------
class _Compiler:
    """Common interface of `torch_neuron` and `torch_neuronx`."""

    def __init__(self) -> None:
        self.traced: list[tuple[Any, ...]] = []

    def trace(self, func: Any, example_inputs: tuple[Tensor, ...]) -> Any:
        self.traced.append(tuple(example.shape for example in example_inputs))
        return func


class _Converter:
    """Stand-in for both `onnx2torch` and the module that it returns."""

    def convert(self, onnx_model_or_path: str) -> "_Converter":
        assert Path(onnx_model_or_path).exists()
        return self

    def eval(self) -> "_Converter":
        return self


@pytest.fixture
def add_one(tmp_path: Path) -> Path:
    node = helper.make_node("Add", ["x", "one"], ["scores"])
    x, scores = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 3]) for n in ("x", "scores"))
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    onnx.save(helper.make_model(helper.make_graph([node], "add", [x], [scores], [one])), tmp_path / "add.onnx")
    return tmp_path / "add.onnx"


@pytest.mark.parametrize("name", ["torch-neuron", "torch-neuronx"])
def test_neuron_graph_answers_batches_up_to_compiled_size(
    name: str, add_one: Path, tmp_path: Path, installed: Callable[[str, Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    package, compiler = name.replace("-", "_"), _Compiler()
    monkeypatch.setattr(neuron, "device_count", lambda: 1)
    installed("torch", Torch())
    installed(package, compiler)
    installed("onnx2torch", _Converter())
    compile_for_neuron(add_one, tmp_path / "graph", package, 4, {"x": X[:3]})
    assert compiler.traced == [((4, 3),)], "rows are repeated where there are too few"
    session = find_runtime(name).load(tmp_path / "graph", "neuron", OPTIONS)
    for count in (4, 1):
        assert np.array_equal(session.infer({"x": X[:count], "not taken": X})["scores"], X[:count] + 1)
    with pytest.raises(ValueError, match="batches of 4"):
        session.infer({"x": np.repeat(X, 2, axis=0)})


def test_torch_neuron_detects_placeholder_package(
    installed: Callable[[str, Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neuron, "device_count", lambda: 1)
    runtime = find_runtime("torch-neuron")
    if "torch" not in sys.modules:
        installed("torch", object())
    assert "Inf1) is not installed" in runtime.availability("neuron").reason
    installed("torch_neuron", object())
    answer = runtime.availability("neuron")
    assert not answer.available
    assert "placeholder" in answer.reason
    assert inferentia.INDEX in answer.reason
