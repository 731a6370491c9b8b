"""Tests of the torch runtimes on real exported programs, where torch is installed."""

import ctypes
import importlib.util
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from runtimes.torch.exported_archive import make_safe
from runtimes.torch.program import import_torch

FP32 = LoadOptions(precision="fp32")


def _sum(y: Any, bias: Any) -> Any:
    return y + bias


def _both(y: Any, bias: Any) -> dict[str, Any]:
    return {"scores": y, "sum": y + bias}


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that exports `forward` as a safe module of two inputs with these output names."""

    def make(forward: Callable[..., Any], outputs: list[str]) -> Path:
        torch = import_torch()
        batch = torch.export.Dim("batch", min=1, max=64)

        class Module(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.linear = torch.nn.Linear(4, 3)

            def forward(self, x: Any, *, bias: Any) -> Any:
                return forward(self.linear(x), bias)

        exported = torch.export.export(
            Module().eval(),
            (torch.randn(2, 4),),
            {"bias": torch.randn(2, 3)},
            dynamic_shapes={"x": {0: batch}, "bias": {0: batch}},
        )
        torch.export.save(exported, tmp_path / "program.pt2")
        make_safe(tmp_path / "program.pt2", tmp_path / "safe", outputs)
        return tmp_path / "safe"

    return make


@pytest.mark.needs_torch
@pytest.mark.parametrize("runtime", ["torch-eager", "torch-compile"])
def test_torch_computes_batches_of_any_size(program: Callable[..., Path], runtime: str) -> None:
    session = find_runtime(runtime).load(program(_sum, ["scores"]), "cpu", FP32)
    random = np.random.default_rng(0)
    x, bias = random.random((7, 4), dtype=np.float32), random.random((7, 3), dtype=np.float32)
    whole = session.infer({"x": x, "bias": bias, "other": x})["scores"]
    assert whole.dtype == np.float32
    for row in range(7):
        part = session.infer({"x": x[row : row + 1], "bias": bias[row : row + 1]})["scores"]
        assert np.allclose(part, whole[row : row + 1], atol=1e-6)


@pytest.mark.needs_torch
@pytest.mark.parametrize("runtime", ["torch-eager", "torch-compile"])
def test_torch_computing_thread_uses_loaded_threads(program: Callable[..., Path], runtime: str) -> None:
    """Torch keeps its number of threads per calling thread; compiled code uses the number of the computing thread."""
    options = LoadOptions(precision="fp32", threads=3)
    session = find_runtime(runtime).load(program(_sum, ["scores"]), "cpu", options)
    rows = {"x": np.zeros((2, 4), np.float32), "bias": np.ones((2, 3), np.float32)}
    session.infer(rows)  # compiles

    def threads_of_omp() -> int:
        session.infer(rows)
        return ctypes.CDLL(_openmp()).omp_get_max_threads()

    with ThreadPoolExecutor(1) as other:
        assert other.submit(threads_of_omp).result() == 3


def _openmp() -> str:
    """Return the path of the OpenMP library that torch has loaded."""
    loaded = (line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines())
    return next(path for path in loaded if "/torch" in path and Path(path).name.startswith(("libgomp", "libiomp5")))


def _long(y: Any, bias: Any) -> Any:
    many = y.repeat(1, 200_000)
    for _ in range(40):
        many = many.sin()
    return many.mean(dim=1, keepdim=True) + bias


@pytest.mark.needs_torch
@pytest.mark.parametrize("runtime", ["torch-eager", "torch-compile"])
def test_torch_releases_gil_while_computing(program: Callable[..., Path], runtime: str) -> None:
    session = find_runtime(runtime).load(program(_long, ["scores"]), "cpu", FP32)
    rows = {"x": np.ones((2, 4), np.float32), "bias": np.zeros((2, 3), np.float32)}
    session.infer(rows)  # compiles
    with ThreadPoolExecutor(1) as other:
        least = min(_standstill(other, lambda: session.infer(rows)) for _ in range(10))
    assert least < 0.5, "the computing thread keeps the interpreter to itself"


def _standstill(other: ThreadPoolExecutor, compute: Callable[[], object]) -> float:
    """Return this thread's longest pause while another computes, as a fraction of the computing time."""
    began = last = time.perf_counter()
    longest, computing = 0.0, other.submit(compute)
    while not computing.done():
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest / (last - began)


def _wide(y: Any, bias: Any) -> Any:
    many = y.repeat(1, 200_000)
    parts = [many.sin(), many.cos(), many.exp(), many.abs()]
    return sum(part.mean(dim=1, keepdim=True) for part in parts) + bias


@pytest.mark.needs_torch
def test_torch_batch_reuses_memory_of_last_batch(program: Callable[..., Path]) -> None:
    """Clearing and mapping pages again after each batch would cost a third of its time.

    The five tensors of a batch, 6.4 MB each, fit into one heap of 64 MiB: glibc unmaps the second heap of a thread when
    it is empty.
    """
    session = find_runtime("torch-eager").load(program(_wide, ["scores"]), "cpu", FP32)
    rows = {"x": np.ones((2, 4), np.float32), "bias": np.zeros((2, 3), np.float32)}

    def pages_taken(_batch: int) -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        session.infer(rows)
        return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

    with ThreadPoolExecutor(1) as slot:
        assert min(slot.map(pages_taken, range(10))) < 500, "of the 7,800 that its tensors take"


@pytest.mark.needs_torch
def test_torch_names_several_outputs(program: Callable[..., Path]) -> None:
    safe = program(_both, ["scores", "sum"])
    session = find_runtime("torch-eager").load(safe, "cpu", FP32)
    outputs = session.infer({"x": np.zeros((2, 4), np.float32), "bias": np.ones((2, 3), np.float32)})
    assert np.allclose(outputs["sum"].astype(float) - outputs["scores"].astype(float), 1)


@pytest.mark.needs_torch
def test_torch_reads_readonly_inputs(program: Callable[..., Path]) -> None:
    session = find_runtime("torch-eager").load(program(_sum, ["scores"]), "cpu", FP32)
    frozen = np.frombuffer(bytes(32), np.float32).reshape(2, 4)
    assert session.infer({"x": frozen, "bias": np.zeros((2, 3), np.float32)})["scores"].shape == (2, 3)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
def test_missing_torch_names_extra() -> None:
    for name in ("torch-eager", "torch-compile"):
        answer = find_runtime(name).availability("cpu")
        assert not answer.available
        assert "infaas[torch]" in answer.reason


def test_torch_availability_imports_nothing() -> None:
    before = "torch" in sys.modules
    find_runtime("torch-eager").availability("cpu")
    assert ("torch" in sys.modules) == before
