"""Test of a worker whose device begins to fail: it is replaced, and no query fails."""

from pathlib import Path

import pytest

from broker.producer import Producer
from process.run import EXIT_REPLACE
from tests.integration.workers.conftest import Site, results_of
from tests.processes import begun_with
from tests.system.workers.conftest import replaced_worker


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
