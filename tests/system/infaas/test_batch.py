"""Test of batch jobs by the command line: killed, refused, concurrent, and with failing rows."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infaas.batch.file_sink import read_checkpoint
from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from tests.processes import begun_with, output_of
from tests.system.infaas.conftest import Cli
from tests.waiting import read_until
from zoo.samples import DATA, labelled

pytestmark = pytest.mark.needs_minutes

ROWS = 4_000
KILLS = 2
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "batch_rows.py"
SLOW = """
import asyncio
from infaas.batch.file_sink import FileSink
write = FileSink.write
async def slowly(self, result):
    await asyncio.sleep(0.02)
    await write(self, result)
FileSink.write = slowly
"""
"""Slows each write, so that a job can be killed before it ends, however busy the machine is."""


async def test_killed_batch_job_writes_same_results(shared: Cli, tmp_path: Path) -> None:
    rows = tmp_path / "rows.npz"
    images = labelled("digits")[0]["input"]
    np.savez(rows, input=np.resize(images, (ROWS, *images.shape[1:])))
    await shared.state()
    await shared.register("digits_linear.onnx", "--name=digits-linear", task="digits")
    whole, killed = tmp_path / "whole.npz", tmp_path / "killed.npz"
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(check_refusals(shared, rows, tmp_path))
        tasks.create_task(check_failed_rows(shared, images, tmp_path))
        tasks.create_task(check_example(shared))
    code, _, err = await shared.run(*job(rows, whole))
    assert code == 0, err
    done = await killed_again_and_again(shared, rows, killed)
    assert (done["answered"], done["failed"]) == (ROWS, 0)
    assert killed.read_bytes() == whole.read_bytes()
    assert names(tmp_path, "killed") == ["killed.npz"]
    check_answers(whole, images)


def job(rows: Path, results: Path, *more: str) -> tuple[str, ...]:
    return ("batch", str(rows), str(results), "--task=digits", "--rows-per-query=2", *more)


async def killed_again_and_again(cli: Cli, rows: Path, results: Path) -> Any:
    """Kill a job `KILLS` times, each time after more progress; run it to its end; return its report."""
    folder, done = results.with_name(f"{results.name}.job"), 0
    python = begun_with(SLOW, results.parent)
    for _ in range(KILLS):
        process = await cli.start(*job(rows, results), **python)
        done = await further_than(done, folder)
        process.send_signal(signal.SIGSTOP)
        code, _, err = await cli.run(*job(rows, results))
        assert (code, "another batch job writes to" in err) == (1, True), err
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was over before it could be killed"
        assert 0 < done < ROWS
    return await cli.json(*job(rows, results))


async def further_than(done: int, folder: Path) -> int:
    """Wait until more than `done` rows are committed; return their number."""

    async def committed() -> int:
        checkpoint = await asyncio.to_thread(read_checkpoint, folder)
        return 0 if checkpoint is None else checkpoint.progress.rows

    return await read_until(committed, lambda rows: rows > done)


def names(folder: Path, start: str) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.name.startswith(start))


def check_answers(results: Path, images: Any) -> None:
    alone = find_runtime("onnx").load(DATA / "digits_linear.onnx", "cpu", LoadOptions(precision="fp32", threads=1))
    expected = alone.infer({"input": images})["logits"].astype(np.float32)
    with np.load(results) as arrays:
        assert np.array_equal(arrays["row"], np.arange(ROWS))
        np.testing.assert_allclose(arrays["logits"], np.resize(expected, (ROWS, 10)), rtol=1e-4, atol=1e-5)


async def check_refusals(cli: Cli, rows: Path, folder: Path) -> None:
    """A limit that cannot be met is refused before the start, with the estimate, and leaves no file."""
    results = folder / "refused.jsonl"
    for limit in ("--max-cost=0", "--deadline=0.000001s"):
        code, _, err = await cli.run(*job(rows, results, limit))
        assert code == 1
        assert "the batch job cannot be done within" in err
        assert "the cheapest takes digits-linear.onnx-fp32.cpu about" in " ".join(err.split())
    assert names(folder, "refused") == []


async def check_failed_rows(cli: Cli, images: Any, folder: Path) -> None:
    """Invalid rows are written to a file of their own, with the reasons, and affect no other row."""
    lines = [json.dumps({"id": f"r{n}", "input": image.tolist()}) for n, image in enumerate(images[:20])]
    lines[7] = json.dumps({"id": "r7", "input": [1, 2]})
    rows, results = folder / "odd.jsonl", folder / "odd.csv"
    rows.write_text("\n".join(lines))
    code, out, err = await cli.run(*job(rows, results, "--json"))
    assert code == 3, err
    assert json.loads(out)["failed"] == 1
    failed = [json.loads(line) for line in (folder / "odd.csv.failed.jsonl").read_text().splitlines()]
    assert [(row["row"], row["id"], row["code"]) for row in failed] == [(7, "r7", "invalid_request")]
    answered = [line.split(",")[:2] for line in results.read_text().splitlines()]
    assert answered == [["row", "id"], *([str(n), f"r{n}"] for n in range(20) if n != 7)]


async def check_example(cli: Cli) -> None:
    code, output = await output_of(EXAMPLE, env={"INFAAS_KAFKA": (await cli.state())["kafka"]})
    assert code == 0, output
    assert "1000 rows, 0 failed" in output
