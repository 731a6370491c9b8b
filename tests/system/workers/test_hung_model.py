"""A model that computes for ever on one input: what becomes of it, of its neighbours and of the worker."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from broker.producer import Producer
from process.run import EXIT_REPLACE
from schemas import headers as h
from schemas.oip import encode_request
from tests.integration.workers.conftest import Site, results_of
from tests.model_files import ENDLESS, endless_model
from tests.system.workers.conftest import replaced_worker

LIMITS = {"INFAAS_WORKERS_COMPUTE_LIMIT_S": "1", "INFAAS_HANG_S": "2"}


def endless_query() -> tuple[bytes, h.RawHeaders]:
    encoded = encode_request({"input": np.full((1, 1, 8, 8), ENDLESS, np.float32)})
    return encoded.value, [(h.JSON_LENGTH, str(encoded.json_length).encode())]


@pytest.mark.timeout(300)
async def test_a_query_that_computes_for_ever_fails_alone_and_the_worker_is_replaced(
    site: Site, producer: Producer, tmp_path: Path
) -> None:
    """Once the model has proved brief, the next batch is computed on the event loop, which then hangs as a whole."""
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
