"""Steps in a process of their own: errors keep their kind, and no crash or hang reaches the registrar."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from registry.child import run_step
from registry.signature import Signature
from registry.step import Inspect
from schemas.errors import InvalidRequest, ModelFailed


def _children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "registry.child" in " ".join(p.cmdline())]


async def _child() -> psutil.Process:
    # The system has no event for a new process.
    while not (found := _children()):  # noqa: ASYNC110
        await asyncio.sleep(0)
    return found[0]


async def test_a_result_comes_back(make_model: Callable[..., Path]) -> None:
    assert [spec.name for spec in (await run_step(Inspect(make_model(), "onnx"), Signature)).inputs] == ["x"]


async def test_an_error_keeps_its_kind_and_message(make_model: Callable[..., Path]) -> None:
    with pytest.raises(InvalidRequest, match="first dimension is the batch"):
        await run_step(Inspect(make_model(x=[1, 4], scores=[1, 3]), "onnx"), Signature)


async def test_a_crash_is_the_models_failure(make_model: Callable[..., Path]) -> None:
    async def crash() -> None:
        (await _child()).kill()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(crash())
        with pytest.raises(ModelFailed, match=r"crashed \(SIGKILL\)"):
            await run_step(Inspect(make_model(), "onnx"), Signature)


async def test_a_step_that_does_not_return_is_killed(make_model: Callable[..., Path]) -> None:
    with pytest.raises(ModelFailed, match="did not finish in time"):
        await run_step(Inspect(make_model(), "onnx"), Signature, timeout_s=0.01)
    assert not _children()


async def test_cancelling_kills_the_process(make_model: Callable[..., Path]) -> None:
    step = asyncio.ensure_future(run_step(Inspect(make_model(), "onnx"), Signature))
    await _child()
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert not _children()
