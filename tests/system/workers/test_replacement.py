"""Tests of worker processes that are replaced: one with a model that never returns, and one whose device fails."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from broker.producing.producer import Producer
from process.run import EXIT_REPLACE
from schemas import headers as h
from schemas.oip import encode_request
from store.placement import list_workers
from tests.integration.workers.conftest import Site, results_of
from tests.model_files import ENDLESS, endless_model
from tests.processes import begun_with
from tests.system.workers.conftest import replaced_worker
from tests.waiting import read_until

pytestmark = pytest.mark.needs_minutes

LIMITS = {"INFAAS_WORKERS_COMPUTE_LIMIT_S": "1", "INFAAS_HANG_S": "2"}


def endless_query() -> tuple[bytes, h.RawHeaders]:
    encoded = encode_request({"input": np.full((1, 1, 8, 8), ENDLESS, np.float32)})
    return encoded.value, [(h.JSON_LENGTH, str(encoded.json_length).encode())]


@pytest.mark.timeout(300)
async def test_endless_query_fails_and_worker_is_replaced(site: Site, producer: Producer, tmp_path: Path) -> None:
    """A model with a loop never runs on the event loop, however fast it was, because it would block the worker."""
    await site.register(await asyncio.to_thread(endless_model, tmp_path / "endless.onnx"))
    value, headers = site.value()
    async with results_of(site) as results, replaced_worker(site, "cpu-0", **LIMITS) as worker:
        await site.place("cpu-0")
        for number in range(100):
            await site.ask(producer, f"before{number}", value, headers, partition=number % 2)
            await results.until(number + 1)
        await site.ask(producer, "endless", *endless_query())
        for number in range(50):
            await site.ask_soon(producer, f"after{number}", value, headers, partition=number % 2)
        found = await results.until(151)
        await worker.ended_with(EXIT_REPLACE)
        await site.ask(producer, "last", value, headers)
        await results.until(152)
    failed = found.pop("endless")
    assert {result.status for result in found.values()} == {"ok"}
    assert failed.status == "model_failed"
    assert b"longer than" in failed.value


@pytest.mark.timeout(300)
async def test_endless_query_does_not_block_others(site: Site, producer: Producer, tmp_path: Path) -> None:
    """The worker has one slot; a spare one takes its place long before the endless query fails."""
    await site.register(await asyncio.to_thread(endless_model, tmp_path / "endless.onnx"))
    value, headers = site.value()
    limits = {"INFAAS_WORKERS_COMPUTE_LIMIT_S": "20"}
    async with results_of(site) as results, replaced_worker(site, "cpu-0", **limits) as worker:
        await site.place("cpu-0")
        await site.ask(producer, "before", value, headers)
        await results.until(1)
        await site.ask(producer, "endless", *endless_query())
        for number in range(50):
            await site.ask_soon(producer, f"after{number}", value, headers, partition=number % 2)
        await results.until(52)
        await worker.ended_with(EXIT_REPLACE)
    assert [(result.id, result.status) for result in results.all[-1:]] == [("endless", "model_failed")]
    assert {result.status for result in results.all[:-1]} == {"ok"}


async def register_and_ask(site: Site, producer: Producer, folder: Path) -> tuple[bytes, h.RawHeaders]:
    """Register a model that never returns on one input, and send that among four good ones; return a good one."""
    await site.register(await asyncio.to_thread(endless_model, folder / "endless.onnx"))
    value, headers = site.value()
    for number in range(4):
        await site.ask(producer, f"good{number}", value, headers)
        if number == 1:
            await site.ask(producer, "endless", *endless_query())
    return value, headers


@pytest.mark.timeout(300)
async def test_endless_batch_fails_only_one_query(site: Site, producer: Producer, tmp_path: Path) -> None:
    """The queries wait before the worker starts and form one batch.

    The others are computed alone, in the same process.
    """
    await register_and_ask(site, producer, tmp_path)
    async with results_of(site) as results, replaced_worker(site, "cpu-0", **LIMITS) as worker:
        await site.place("cpu-0")
        await results.until(5)
        await worker.ended_with(EXIT_REPLACE)
    assert worker.codes.count(EXIT_REPLACE) == 1
    assert {result.id: result.status for result in results.all} == {
        **{f"good{number}": "ok" for number in range(4)}, "endless": "model_failed",
    }  # fmt: skip


@pytest.mark.timeout(300)
async def test_endless_query_fails_before_partition_moves(site: Site, producer: Producer, tmp_path: Path) -> None:
    """The second worker, which is placed once the first one drains, never gets the query."""
    value, headers = await register_and_ask(site, producer, tmp_path)
    limits = {"INFAAS_WORKERS_COMPUTE_LIMIT_S": "8", "INFAAS_DRAIN_TIMEOUT_S": "0.5"}
    async with (
        results_of(site) as results,
        replaced_worker(site, "cpu-0", **limits) as first,
        replaced_worker(site, "cpu-1", **limits) as second,
    ):
        await site.place("cpu-0")
        await read_until(lambda: list_workers(site.pool), lambda rows: any(row.draining for row in rows))
        await site.place("cpu-1")
        await site.unplace("cpu-0")
        found = await results.until(5)
        await first.ended_with(EXIT_REPLACE)
        await site.ask(producer, "last", value, headers)
        last = (await results.until(6))["last"]
        assert (last.status, last.worker, second.codes) == ("ok", "cpu-1", [])
    assert (found["endless"].status, found["endless"].worker) == ("model_failed", "cpu-0")
    assert {found[f"good{number}"].status for number in range(4)} == {"ok"}


@pytest.mark.timeout(300)
async def test_worker_with_failed_device_is_replaced(site: Site, producer: Producer, tmp_path: Path) -> None:
    """The runtime is real except for its device, which is lost after a while; the next process has it again."""
    await site.register()
    value, headers = site.value()
    python = begun_with(FAILING, tmp_path) | {"FAILED_DEVICE": str(tmp_path / "failed")}
    async with results_of(site) as results, replaced_worker(site, "cpu-0", **python) as worker:
        await site.place("cpu-0")
        await site.ask(producer, "first", value, headers)
        await results.until(1)
        (tmp_path / "failed").touch()
        for number in range(100):
            await site.ask_soon(producer, f"q{number}", value, headers, partition=number % 2)
        found = await results.until(101)
        await worker.ended_with(EXIT_REPLACE)
    assert {result.status for result in found.values()} == {"ok"}


FAILING = """
import os
from pathlib import Path
from runtimes import onnx
infer = onnx.OnnxSession.infer
failed = Path(os.environ["FAILED_DEVICE"])
failed.unlink(missing_ok=True)
def fails(self, inputs):
    if failed.exists():
        raise RuntimeError("device lost")
    return infer(self, inputs)
onnx.OnnxSession.infer = fails
"""
