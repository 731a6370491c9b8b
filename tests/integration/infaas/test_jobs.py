"""Tests of `infaas jobs` on a database."""

import asyncio
import json

import pytest

from gateway.jobs.outcomes import failed, read_end
from schemas import headers as h
from schemas.errors import Unsatisfiable
from schemas.jobs import NewJob
from store.jobs import end_jobs, put_jobs
from store.pool import Pool
from tests.unit.infaas.shell import Shell

VALUE = b'{"model_name":"digits","outputs":[]}'


@pytest.fixture
async def kept(store_pool: Pool) -> None:
    """Store jobs 1 to 4: queued, succeeded, failed, and succeeded with a binary result."""
    await put_jobs(
        store_pool,
        [
            [NewJob(id=name, model="m", task="t", offline=True, headers={}, request=b"{}")]
            for name in ("1", "2", "3", "4")
        ],
    )
    fields = {h.ID: "2", h.STATUS: "ok", h.VARIANT: "mlp.onnx-fp32.cpu", h.COST: "0.001"}
    binary = {h.ID: "4", h.STATUS: "ok", h.CONTENT_TYPE: "application/octet-stream"}
    ends = [read_end(fields, VALUE), failed("3", Unsatisfiable("none is so accurate")), read_end(binary, b"\0")]
    assert len(await end_jobs(store_pool, ends)) == 3


async def run(shell: Shell, *words: str) -> str:
    done = await asyncio.to_thread(shell, *words)
    assert done.exit_code == 0, done.output
    return done.stdout


async def refused(shell: Shell, *words: str) -> str:
    done = await asyncio.to_thread(shell, *words)
    assert done.exit_code == 2
    return done.output


@pytest.mark.usefixtures("kept")
async def test_jobs_commands_list_show_and_cancel(connected: Shell) -> None:
    pages = await run(connected, "jobs", "list", "--limit=3"), await run(connected, "jobs", "list", "--before=2")
    assert "unsatisfiable: none is so accurate" in pages[0]
    assert "queued" in pages[1]
    (only,) = json.loads(await run(connected, "jobs", "list", "--state=succeeded", "--before=3", "--json"))
    assert (only["id"], only["variant"]) == ("2", "mlp.onnx-fp32.cpu")
    shown = await run(connected, "jobs", "show", "2")
    assert "0.001" in shown
    assert json.loads(await run(connected, "jobs", "cancel", "1", "--json")) == {
        "cancelled": ["1"],
        "not_cancelled": [],
    }
    assert "already ended" in await refused(connected, "jobs", "cancel", "1", "2")
    assert "no job none" in await refused(connected, "jobs", "show", "none")


@pytest.mark.usefixtures("kept")
async def test_jobs_result_prints_result_or_reason(connected: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert json.loads(await run(connected, "jobs", "result", "2")) == json.loads(VALUE)
    for job_id, why in (("1", "is queued"), ("3", "none is so accurate"), ("4", "--file"), ("5", "no job 5")):
        assert why in await refused(connected, "jobs", "result", job_id)
    file = tmp_path_factory.mktemp("result") / "4"
    await run(connected, "jobs", "result", "4", f"--file={file}")
    assert file.read_bytes() == b"\0"
