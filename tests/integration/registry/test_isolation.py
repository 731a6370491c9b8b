"""Steps in a process of their own: errors keep their kind, and no crash or hang reaches the registrar."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from registry.pipeline.inspection import Inspection, InspectModel, SourceFormat
from registry.pipeline.isolation import run_step
from schemas.errors import InvalidRequest, ModelFailed
from tests.waiting import until


def _children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "registry.pipeline.isolation" in " ".join(p.cmdline())]


async def _child() -> psutil.Process:
    return (await until(_children))[0]


def _inspect(model: Path) -> InspectModel:
    return InspectModel(model, SourceFormat.ONNX, None, None, model.with_suffix(".safe"))


async def test_a_result_comes_back(make_model: Callable[..., Path]) -> None:
    model = make_model()
    inspection = await run_step(_inspect(model), Inspection)
    assert [spec.name for spec in inspection.signature.inputs] == ["x"]
    assert inspection.file == model


async def test_an_error_keeps_its_kind_and_message(make_model: Callable[..., Path]) -> None:
    with pytest.raises(InvalidRequest, match="first dimension is the batch"):
        await run_step(_inspect(make_model(x=[1, 4], scores=[1, 3])), Inspection)


async def test_a_crash_is_the_models_failure(make_model: Callable[..., Path]) -> None:
    async def crash() -> None:
        (await _child()).kill()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(crash())
        with pytest.raises(ModelFailed, match=r"crashed \(SIGKILL\)"):
            await run_step(_inspect(make_model()), Inspection)


async def test_a_step_that_does_not_return_is_killed(make_model: Callable[..., Path]) -> None:
    with pytest.raises(ModelFailed, match="did not finish in time"):
        await run_step(_inspect(make_model()), Inspection, timeout_s=0.01)
    assert not _children()


async def test_cancelling_kills_the_process(make_model: Callable[..., Path]) -> None:
    step = asyncio.ensure_future(run_step(_inspect(make_model()), Inspection))
    await _child()
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert not _children()
