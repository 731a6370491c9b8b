"""Steps in a process of their own: errors keep their kind, and no crash or hang reaches the registrar."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from onnx import helper, numpy_helper

from registry.pipeline.inspection import Inspection, InspectModel, SourceFormat
from registry.pipeline.isolation import StepLimits, run_step
from registry.pipeline.measurement import Measurement, MeasureVariant
from registry.samples import save_arrays
from runtimes.protocol import LoadOptions
from schemas.errors import InvalidRequest, ModelFailed
from tests.waiting import until


def _children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "registry.pipeline.isolation" in " ".join(p.cmdline())]


async def _child() -> psutil.Process:
    return (await until(_children))[0]


def _inspect(model: Path) -> InspectModel:
    return InspectModel(model, SourceFormat.ONNX, None, None, model.with_suffix(".safe"))


def _endless(folder: Path) -> InspectModel:
    """A step that never ends by itself: nobody writes what it reads."""
    os.mkfifo(folder / "endless.onnx")
    return _inspect(folder / "endless.onnx")


def _measure(model: Path, folder: Path, runtime: str = "onnx") -> MeasureVariant:
    samples = folder / "samples.npz"
    save_arrays(samples, {"x": np.zeros((16, 4), np.float32)})
    return MeasureVariant(
        model, runtime, "cpu", LoadOptions(precision="fp32", max_batch=1), samples, folder / "outputs"
    )


async def test_a_result_comes_back(make_model: Callable[..., Path]) -> None:
    model = make_model()
    inspection = await run_step(_inspect(model), Inspection)
    assert [spec.name for spec in inspection.signature.inputs] == ["x"]
    assert inspection.file == model


async def test_an_error_keeps_its_kind_and_message(make_model: Callable[..., Path]) -> None:
    odd = make_model(nodes=[helper.make_node("NoSuchOperator", ["x"], ["scores"])])
    with pytest.raises(InvalidRequest, match="is not a valid ONNX model"):
        await run_step(_inspect(odd), Inspection)


async def test_a_crash_is_the_models_failure(tmp_path: Path) -> None:
    async def crash() -> None:
        (await _child()).send_signal(signal.SIGSEGV)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(crash())
        with pytest.raises(ModelFailed, match=r"crashed \(SIGSEGV\)"):
            await run_step(_endless(tmp_path), Inspection)


async def test_a_step_that_does_not_return_is_killed(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match="did not finish in time"):
        await run_step(_endless(tmp_path), Inspection, StepLimits(timeout_s=0.01))
    assert not _children()


async def test_cancelling_kills_the_process(tmp_path: Path) -> None:
    step = asyncio.ensure_future(run_step(_endless(tmp_path), Inspection))
    await _child()
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert not _children()


async def test_a_step_knows_no_secret_of_who_starts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("INFAAS_POSTGRES", "INFAAS_KAFKA_SASL_PASSWORD", "AWS_SECRET_ACCESS_KEY", "INFAAS_SIGNING_SECRET")
    for name in secrets:
        monkeypatch.setenv(name, "sesame")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    step = asyncio.ensure_future(run_step(_endless(tmp_path), Inspection))
    found = (await _child()).environ()
    step.cancel()
    await asyncio.wait({step})
    assert "sesame" not in found.values()
    assert (found["OMP_NUM_THREADS"], found["PATH"]) == ("1", os.environ["PATH"])


async def test_a_step_that_needs_too_much_memory_says_so_and_harms_nobody(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    """It fills 4 GB, and may take half of that: the machine has more, so that only the limit can end it."""
    huge = numpy_helper.from_array(np.array([10**9], np.int64))
    nodes = [
        helper.make_node("Constant", [], ["shape"], value=huge),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "sum"], ["scores"]),
    ]
    step = _measure(make_model(nodes=nodes), tmp_path)
    with pytest.raises(ModelFailed, match="needs more memory than the 2000 MiB that it may take"):
        await run_step(step, Measurement, StepLimits(memory_bytes=2000 << 20))


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
async def test_what_a_runtime_would_report_of_itself_is_not_even_noted(
    make_model: Callable[..., Path], runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(home))
    await run_step(_measure(make_model(), tmp_path, runtime), Measurement)
    assert list(home.iterdir()) == []
