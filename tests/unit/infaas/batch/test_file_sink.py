"""Tests of file sinks: their contents, and that a killed run leaves no trace."""

import asyncio
import csv
import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from pyarrow import parquet

from infaas.batch.file_sink import FileSink
from infaas.batch.formats import output_format
from infaas.batch.rows import ChunkResult, FailedRow, OutputRows
from infaas.batch.sink import Progress
from schemas.errors import OperatorError
from schemas.tensors import BYTES
from tests.unit.infaas.batch.memory import TERMS

FORMS = ("out.jsonl", "out.csv", "out.npz", "out.parquet")


def rows(*numbers: int) -> OutputRows:
    labels = np.empty(len(numbers), BYTES)
    labels[:] = [f"label {n}".encode() for n in numbers]
    scores = np.array([[n / 10, -n] for n in numbers], np.float32).reshape(-1, 1, 2)
    return OutputRows(np.array(numbers, np.int64), {"label": labels, "scores": scores}, [f"r{n}" for n in numbers])


def results() -> Iterator[ChunkResult]:
    yield ChunkResult((rows(0, 1, 2),), (), {"row": 3}, 0.25)
    yield ChunkResult((rows(3, 5), rows(6)), (FailedRow(4, "model_failed", "no"),), {"row": 7}, 0.25)
    yield ChunkResult((), (FailedRow(7, "invalid_request", "neither", "r7"),), {"row": 8})
    yield ChunkResult((rows(8, 10), rows(9)), (), {"row": 11}, 0.5)


def sink(output: Path, **options: bool) -> FileSink:
    return FileSink(output, output_format(output), **options)


async def write_all(output: Path, *results: ChunkResult, **options: bool) -> None:
    """Write a whole output."""
    made = sink(output, **options)
    await made.open(TERMS)
    for result in results:
        await made.write(result)
    await made.finish(Progress())
    await made.close()


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def write(output: Path, upto: int | None = None, committed: int = 2) -> None:
    """Continue from the last commit, and write all results, or stop as if killed before result `upto`."""
    made = sink(output)
    try:
        progress = await made.open(TERMS) or Progress()
        for number, result in enumerate(results()):
            if progress.position is not None and int(result.end["row"]) <= int(progress.position["row"]):
                continue
            if number == upto:
                return
            await made.write(result)
            progress = progress.after(result, 1.0)
            if number < committed:
                await made.commit(progress)
        await made.finish(progress)
    finally:
        await made.close()


@pytest.mark.parametrize("name", FORMS)
async def test_sink_writes_each_row_once_after_kills(tmp_path: Path, name: str) -> None:
    whole, killed = tmp_path / name, tmp_path / "killed" / name
    killed.parent.mkdir()
    await write(whole)
    for upto, committed in ((1, 0), (2, 1), (3, 1), (3, 3)):
        await write(killed, upto, committed)
        assert not killed.exists()
    await write(killed)
    assert killed.read_bytes() == whole.read_bytes()
    failed = [json.loads(line) for line in (tmp_path / f"{name}.failed.jsonl").read_text().splitlines()]
    assert failed == [
        {"row": 4, "code": "model_failed", "reason": "no"},
        {"row": 7, "id": "r7", "code": "invalid_request", "reason": "neither"},
    ]
    assert (killed.parent / f"{name}.failed.jsonl").read_bytes() == (tmp_path / f"{name}.failed.jsonl").read_bytes()
    assert names(killed.parent) == [name, f"{name}.failed.jsonl"]


async def test_sink_formats_hold_rows_in_order(tmp_path: Path) -> None:
    for name in FORMS:
        await write(tmp_path / name)
    numbers = [0, 1, 2, 3, 5, 6, 8, 9, 10]
    lines: list[Any] = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == numbers
    assert lines[1] == {"row": 1, "id": "r1", "outputs": {"label": "label 1", "scores": [[0.1, -1.0]]}}
    with (tmp_path / "out.csv").open(newline="") as file:
        cells = list(csv.reader(file))
    assert cells[:2] == [["row", "id", "label", "scores.0", "scores.1"], ["0", "r0", "label 0", "0.0", "0.0"]]
    assert [int(line[0]) for line in cells[1:]] == numbers
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["row"].tolist() == numbers
        assert arrays["label"].tolist() == [f"label {n}" for n in numbers]
        assert arrays["scores"].shape == (9, 1, 2)
        assert arrays["scores"].dtype == np.float32
        assert arrays["scores"][:, 0, 1].tolist() == [-n for n in numbers]
    found = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["row"] for row in found] == numbers
    assert found[-1] == {"row": 10, "id": "r10", "label": "label 10", "scores": [[1.0, -10.0]]}


@pytest.mark.parametrize("name", FORMS)
async def test_sink_writes_valid_output_without_rows(tmp_path: Path, name: str) -> None:
    await write_all(tmp_path / name)
    assert names(tmp_path) == [name]
    if name.endswith(".npz"):
        with np.load(tmp_path / name) as arrays:
            assert arrays["row"].tolist() == []
    if name.endswith(".parquet"):
        assert parquet.read_table(tmp_path / name).num_rows == 0


@pytest.mark.parametrize("name", FORMS)
async def test_sink_completes_after_kill_while_replacing_output(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(tmp_path / name)
    wanted = (tmp_path / name).read_bytes()
    killed = tmp_path / "killed" / name
    killed.parent.mkdir()

    def die(path: Path) -> None:
        if path.parent != killed.parent:  # the checkpoint is written by the same functions, in the folder of the job
            raise RuntimeError("killed")

    for step in ("infaas.batch.file_sink.sync_file", "infaas.batch.file_sink.sync_folder"):
        with monkeypatch.context() as patched:
            patched.setattr(step, die)
            with pytest.raises(RuntimeError, match="killed"):
                await write(killed)
        assert (killed.parent / f"{name}.job").exists()
    await write(killed)
    assert killed.read_bytes() == wanted
    assert names(killed.parent) == [name, f"{name}.failed.jsonl"]


async def test_sink_refuses_second_job_on_its_output(tmp_path: Path) -> None:
    first, second = sink(tmp_path / "out.jsonl"), sink(tmp_path / "out.jsonl")
    await first.open(TERMS)
    with pytest.raises(OperatorError, match=r"another batch job writes to .*out\.jsonl\.job right now"):
        await second.open(TERMS)
    await second.close()
    await first.finish(Progress())
    await first.close()
    with pytest.raises(OperatorError, match=r"exists already; --overwrite replaces it"):
        await second.open(TERMS)
    await second.close()
    assert names(tmp_path) == ["out.jsonl"]
    third = sink(tmp_path / "out.jsonl", overwrite=True)
    assert await third.open(TERMS) is None
    await third.close()


async def test_sink_refuses_progress_of_another_job(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    await write(output, 3, 3)
    other = sink(output)
    left = other.left()
    assert left is not None
    assert (left.terms, left.progress.rows) == (TERMS, 8)
    with pytest.raises(OperatorError, match=r"results of another batch job \(task: squares, not cubes\)"):
        await other.open(replace(TERMS, task="cubes"))
    await other.close()
    anew = sink(output, restart=True)
    assert anew.left() is None
    assert await anew.open(replace(TERMS, task="cubes")) is None
    await anew.close()


async def test_sink_keeps_progress_if_it_refuses_to_open(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    await write(output, 3, 3)
    output.write_text("an earlier job's")
    anew = sink(output, restart=True)
    with pytest.raises(OperatorError, match="--overwrite replaces it"):
        await anew.open(TERMS)
    await anew.close()
    left = sink(output).left()
    assert left is not None
    assert left.progress.rows == 8
    both = sink(output, restart=True, overwrite=True)
    assert await both.open(TERMS) is None
    await both.finish(Progress())
    await both.close()
    assert (names(tmp_path), output.read_text()) == (["out.jsonl"], "")


async def test_sink_renames_outputs_named_like_its_columns(tmp_path: Path) -> None:
    outputs = {name: np.array([n], np.int64) for n, name in enumerate(("row", "id", "outputs.row", "y"), 10)}
    for ids in ((), ("r0",)):
        for name in FORMS:
            await write_all(
                tmp_path / name,
                ChunkResult((OutputRows(np.array([7], np.int64), outputs, ids),), (), {"row": 8}),
                overwrite=True,
            )
        apart = {"outputs.outputs.row": 10, "outputs.id": 11, "outputs.row": 12, "y": 13}
        line: Any = json.loads((tmp_path / "out.jsonl").read_text())
        assert (line["row"], line["outputs"]) == (7, {"row": 10, "id": 11, "outputs.row": 12, "y": 13})
        called = {"id": "r0"} if ids else {}
        with (tmp_path / "out.csv").open(newline="") as file:
            assert list(csv.DictReader(file)) == [
                {name: str(value) for name, value in ({"row": 7} | called | apart).items()}
            ]
        assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == [{"row": 7} | called | apart]
        with np.load(tmp_path / "out.npz") as arrays:
            assert {name: arrays[name].tolist() for name in arrays} == {
                name: [value] for name, value in ({"row": 7} | apart).items()
            }


async def test_sink_refuses_changing_shapes_except_in_jsonl(tmp_path: Path) -> None:
    wide = OutputRows(np.array([3], np.int64), {"label": np.zeros(1), "scores": np.zeros((1, 9))}, ["r3"])
    for name in ("out.csv", "out.npz", "out.parquet"):
        made = sink(tmp_path / name)
        await made.open(TERMS)
        await made.write(ChunkResult((rows(0, 1, 2),), (), {"row": 3}))
        with pytest.raises(OperatorError, match=r"write to a \.jsonl file"):
            await write_last(made, ChunkResult((wide,), (), {"row": 4}))
        await made.close()


async def write_last(made: FileSink, result: ChunkResult) -> None:
    await made.write(result)
    await made.finish(Progress())


async def test_jsonl_sink_writes_nan_and_infinity_as_text(tmp_path: Path) -> None:
    made = sink(tmp_path / "out.jsonl")
    await made.open(TERMS)
    odd = {"y": np.array([np.nan, -np.inf], np.float32)}
    await made.write(ChunkResult((OutputRows(np.arange(2), odd),), (), {"row": 2}))
    await made.finish(Progress())
    await made.close()
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert lines == ['{"row":0,"outputs":{"y":"NaN"}}', '{"row":1,"outputs":{"y":"-Infinity"}}']


def named(numbers: list[int], *ids: object) -> OutputRows:
    return OutputRows(np.array(numbers, np.int64), {"y": np.zeros(len(numbers), np.float32)}, ids)


async def test_sink_writes_rows_with_and_without_ids(tmp_path: Path) -> None:
    both = ChunkResult((named([0, 2], "r0", None), named([1])), (), {"row": 3})
    for name in FORMS:
        await write_all(tmp_path / name, both, ChunkResult((named([3]),), (), {"row": 4}))
    lines: list[Any] = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line.get("id") for line in lines] == ["r0", None, None, None]
    assert (tmp_path / "out.csv").read_text().split() == ["row,id,y", "0,r0,0.0", "1,,0.0", "2,,0.0", "3,,0.0"]
    assert parquet.read_table(tmp_path / "out.parquet").column("id").to_pylist() == ["r0", None, None, None]


async def test_parquet_sink_writes_ids_that_appear_late(tmp_path: Path) -> None:
    await write_all(
        tmp_path / "out.parquet",
        ChunkResult((named([0]),), (), {"row": 1}),
        ChunkResult((named([1], "r1"),), (), {"row": 2}),
    )
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == [
        {"row": 0, "id": None, "y": 0.0}, {"row": 1, "id": "r1", "y": 0.0}
    ]  # fmt: skip


async def test_sink_writes_ids_of_any_type_as_text(tmp_path: Path) -> None:
    made = sink(tmp_path / "out.jsonl")
    await made.open(TERMS)
    failed = (FailedRow(1, "invalid_request", "no", Decimal("1.5")),)
    await made.write(ChunkResult((named([0], b"r0"),), failed, {"row": 2}))
    await made.finish(Progress())
    await made.close()
    assert [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["b'r0'"]
    assert json.loads((tmp_path / "out.jsonl.failed.jsonl").read_text())["id"] == "1.5"


async def test_sink_completes_cancelled_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), list[str]()

    def slowly(*_: object) -> None:
        begun.set()
        may_end.wait()
        ended.append("written")

    monkeypatch.setattr("infaas.batch.file_sink.write_checkpoint", slowly)
    made = sink(tmp_path / "out.jsonl")
    await made.open(TERMS)
    committing = asyncio.create_task(made.commit(Progress()))
    await asyncio.to_thread(begun.wait)
    committing.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    early = committing.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await committing
    assert (early, ended) == (False, ["written"])
    await made.close()


async def test_sink_explains_full_disk_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("infaas.batch.formats.npz.NpzOutput.complete", refuse)
        with pytest.raises(OperatorError, match=r"No space left on device; finished rows are kept"):
            await write(tmp_path / "out.npz")
    await write(tmp_path / "out.npz")
    assert names(tmp_path) == ["out.npz", "out.npz.failed.jsonl"]
