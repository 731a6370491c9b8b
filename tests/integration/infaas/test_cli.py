"""Tests of the output and exit codes of commands on a real database."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import nan
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from infaas.cli.output import EXIT_QUERY, EXIT_SETUP
from process.sockets import free_port
from schemas.latency import BatchLatency
from schemas.rows.catalog import VariantState
from schemas.rows.samples import LagReading
from schemas.status import InstanceState
from store.placement import put_instances, register_worker, report_instance_state
from store.pool import Pool
from store.registry import get_profile, list_corrections, put_correction, put_variant
from store.samples import (
    add_losses,
    group_partition_ids,
    maintain_partitions,
    prune_losses,
    put_large_topics,
    topic_alarms,
    write_reading,
)
from tests.example_rows import a_profile, a_variant, a_worker, an_instance, register
from tests.model_files import make_model, openvino_files
from tests.unit.infaas.shell import Shell

__all__ = ["make_model"]


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("tasks", ["digits"]),
        ("models", ["cnn", "mlp"]),
        ("variants", ["cnn.onnx-fp32.cpu", "mlp.onnx-fp32.cpu"]),
    ],
)
def test_listings_show_registered_names(registered: Shell, command: str, names: list[str]) -> None:
    shown = registered(command)
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in names)
    rows = json.loads(registered(command, "--json").stdout)
    assert [row.get("variant", row)["name"] for row in rows] == names


def test_profile_shows_every_measurement(registered: Shell) -> None:
    expected = a_profile("mlp.onnx-fp32.cpu")
    shown = registered("profile", "mlp.onnx-fp32.cpu")
    assert shown.exit_code == 0
    assert expected.device in shown.stdout
    measured = json.loads(registered("profile", "mlp.onnx-fp32.cpu", "--json").stdout)
    assert measured["accuracy"] == expected.accuracy
    assert [row["batch"] for row in measured["latency"]] == [row.batch for row in expected.latency]


async def test_variants_and_scale_status_show_failed_loads(connected: Shell, store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu", "cnn.onnx-fp32.cpu")
    await register_worker(store_pool, a_worker("cpu-0"))
    await put_instances(store_pool, [an_instance("mlp.onnx-fp32.cpu"), an_instance("cnn.onnx-fp32.cpu")])
    reason = "cannot load: no kernel"
    await report_instance_state(store_pool, "cpu-0", "mlp.onnx-fp32.cpu", InstanceState.FAILED, reason)
    for command in (("variants",), ("scale", "status")):
        shown = (await asyncio.to_thread(connected, *command)).stdout
        assert reason in shown
    listed = json.loads((await asyncio.to_thread(connected, "variants", "--json")).stdout)
    assert [row["failed"] for row in listed] == [{}, {"cpu-0": reason}]


async def test_variants_show_corrections_until_remeasured(connected: Shell, store_pool: Pool) -> None:
    name = "mlp.onnx-fp32.cpu"
    await register(store_pool, name)
    measured = await get_profile(store_pool, name)
    assert measured is not None
    for worker, factor in (("cpu-0", 2.5), ("cpu-1", 3.0), ("cpu-1", 1.0)):
        await register_worker(store_pool, a_worker(worker))
        await put_correction(store_pool, measured, worker, factor, 600.0)
    shown = (await asyncio.to_thread(connected, "variants")).stdout
    assert ("cpu-0" in shown, "2.50" in shown, "cpu-1" in shown) == (True, True, False)
    assert "2.50 times" in (await asyncio.to_thread(connected, "profile", name)).stdout
    (row,) = json.loads((await asyncio.to_thread(connected, "variants", "--json")).stdout)
    assert [(one["worker"], one["factor"]) for one in row["corrections"]] == [("cpu-0", 2.5)]
    await put_variant(store_pool, a_variant(name), a_profile(name))
    await put_correction(store_pool, measured, "cpu-0", 2.5, 600.0)  # for the earlier profile
    assert await list_corrections(store_pool) == []


async def test_variants_show_reason_of_refused_variant(connected: Shell, store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    refused = msgspec.structs.replace(
        a_variant("mlp.onnx-int8.cpu", state=VariantState.REFUSED), reason="differs in [0] by 3.5"
    )
    await put_variant(store_pool, refused)
    shown = await asyncio.to_thread(connected, "variants")
    assert "differs in [0] by 3.5" in shown.stdout


def test_profile_of_unknown_variant_is_one_line_error(registered: Shell) -> None:
    shown = registered("profile", "nobody.onnx-fp32.cpu")
    assert shown.exit_code == EXIT_SETUP
    assert shown.stderr.startswith("error: there is no profile of 'nobody.onnx-fp32.cpu'")
    assert shown.stderr.count("\n") == 1


def test_query_of_unknown_task_exits_with_query_error(registered: Shell) -> None:
    shown = registered("query", "nobody")
    assert shown.exit_code == EXIT_QUERY
    assert shown.stderr.startswith("error: no task, architecture or variant is called 'nobody'")


@pytest.mark.parametrize("name", ["digits", "mlp", "mlp.onnx-fp32.cpu"])
def test_query_finds_example_for_each_kind_of_name(
    registered: Shell, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("INFAAS_GATEWAY", f"http://127.0.0.1:{free_port()}")
    assert "cannot reach the gateway" in registered("query", name).stderr


@pytest.mark.parametrize("command", ["variants", "models"])
def test_listing_of_unknown_task_fails(registered: Shell, command: str) -> None:
    shown = registered(command, "--task", "nobody")
    assert shown.exit_code == EXIT_SETUP
    assert "there is no task 'nobody'" in shown.stderr


@pytest.mark.parametrize("width", [80, 120])
async def test_tables_show_names_in_full(
    connected: Shell, store_pool: Pool, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    names = ["mnist-resnet.onnx-int8static.cpu", "text-embedder.torchcompile-fp32.cuda"]
    await register(store_pool, *names)
    await _record_lag(store_pool, {("mnist-resnet.onnx-int8static.cpu", 0): 3})
    monkeypatch.setattr("infaas.cli.output.out", Console(width=width))
    for name in names:
        shown = (await asyncio.to_thread(connected, "variants")).stdout
        assert name in shown
        assert "…" not in shown
        assert name in (await asyncio.to_thread(connected, "profile", name)).stdout
    assert "topic-mnist-resnet.onnx-int8static.cpu" in (await asyncio.to_thread(connected, "lag")).stdout


async def test_variants_and_profile_mark_noisy_latencies(connected: Shell, store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu", "cnn.onnx-fp32.cpu")
    measured = a_profile("mlp.onnx-fp32.cpu")
    noisy = msgspec.structs.replace(
        measured, latency=tuple(msgspec.structs.replace(point, noise=0.3) for point in measured.latency)
    )
    await put_variant(store_pool, a_variant("mlp.onnx-fp32.cpu"), noisy)
    shown = (await asyncio.to_thread(connected, "variants")).stdout
    assert "while the machine was busy: mlp.onnx-fp32.cpu. `infaas register ... --again`" in shown
    assert "~1 ms" in shown
    about = (await asyncio.to_thread(connected, "profile", "mlp.onnx-fp32.cpu")).stdout
    assert "--again" in about
    assert "30%" in about
    assert "--again" not in (await asyncio.to_thread(connected, "profile", "cnn.onnx-fp32.cpu")).stdout


def test_db_upgrade_reports_version_and_is_idempotent(connected: Shell) -> None:
    first, second = connected("db", "upgrade"), connected("db", "upgrade")
    assert first.exit_code == 0
    assert "version" in first.stderr
    assert first.stderr == second.stderr


async def test_lag_sums_partitions_and_shows_unknown(connected: Shell, store_pool: Pool) -> None:
    await _record_lag(store_pool, {("a", 0): 3, ("a", 1): 4, ("b", 0): 5, ("b", 1): -1})
    shown = (await asyncio.to_thread(connected, "lag")).stdout
    (a,) = (line for line in shown.splitlines() if "topic-a" in line)
    (b,) = (line for line in shown.splitlines() if "topic-b" in line)
    assert [cell.strip() for cell in a.split("│")][2:6] == ["2", "7", "1.500", "stalled"]
    assert [cell.strip() for cell in b.split("│")][2:6] == ["2", "?", "?", "stalled"]
    assert "alarm" not in shown
    whole = (await asyncio.to_thread(connected, "lag", "--partitions")).stdout
    assert whole.count("topic-a") == 2
    assert "unknown" in whole


async def test_lag_shows_alarm_for_old_or_failed_readings(connected: Shell, store_pool: Pool) -> None:
    await _record_lag(store_pool, {("a", 0): 3}, seconds_ago=60)
    assert "alarm: the last lag reading is 6" in (await asyncio.to_thread(connected, "lag")).stdout
    await write_reading(store_pool, LagReading(at=datetime.now(UTC), whole=False, error="Kafka is away"))
    assert (
        "alarm: cannot read the lag, so scaling is suspended: Kafka"
        in (await asyncio.to_thread(connected, "lag")).stdout
    )
    report = json.loads((await asyncio.to_thread(connected, "lag", "--json")).stdout)
    assert report["alarms"] == ["cannot read the lag, so scaling is suspended: Kafka is away"]
    assert [(row["topic"], row["lag"], row["health"]) for row in report["lag"]] == [("topic-a", 3, "stalled")]


async def test_lag_shows_alarms_for_lost_records_and_large_topics(connected: Shell, store_pool: Pool) -> None:
    await _record_lag(store_pool, {("a", 0): 3})
    await add_losses(store_pool, datetime.now(UTC), {"topic-a": 1200})
    await add_losses(store_pool, datetime.now(UTC), {"topic-a": 34})
    await put_large_topics(store_pool, datetime.now(UTC), {"topic-a": 12_300_000_000, "topic-b": 1})
    await put_large_topics(store_pool, datetime.now(UTC), {"topic-a": 12_400_000_000})
    alarms = json.loads((await asyncio.to_thread(connected, "lag", "--json")).stdout)["alarms"]
    assert alarms[0] == "topic-a takes 12.4 GB: is it being processed?"
    assert "topic-a lost 1,234 unfinished records" in alarms[1]
    assert len(alarms) == 2
    assert "alarm: topic-a lost" in (await asyncio.to_thread(connected, "lag")).stdout
    assert await prune_losses(store_pool, datetime.now(UTC)) == 1
    assert len(await topic_alarms(store_pool)) == 1


async def _record_lag(pool: Pool, lags: dict[tuple[str, int], int], seconds_ago: float = 0) -> None:
    at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    await maintain_partitions(pool, at, 3600, 86400)
    ids = await group_partition_ids(pool, [("group", f"topic-{name}", partition) for name, partition in lags])
    reading = LagReading(
        at=at, whole=True, group_partitions=ids,
        end_offsets=[10] * len(ids), committed=[10 - lag for lag in lags.values()],
        lags=list(lags.values()), since_s=[at.timestamp() - 1.5 if lag > 0 else nan for lag in lags.values()],
        healths=[3 if lag > 0 else 0 for lag in lags.values()],
    )  # fmt: skip
    await write_reading(pool, reading)


async def test_variants_mark_and_plot_dominated_variants(connected: Shell, store_pool: Pool, tmp_path: Path) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu", "cnn.onnx-fp32.cpu")
    slow = msgspec.structs.replace(
        a_profile("mlp.onnx-fp32.cpu"),
        latency=tuple(BatchLatency(p.batch, 2 * p.p50_s, 2 * p.p99_s) for p in a_profile("").latency),
    )
    await put_variant(store_pool, a_variant("mlp.onnx-fp32.cpu"), slow)
    listed = json.loads((await asyncio.to_thread(connected, "variants", "--json")).stdout)
    assert {row["variant"]["name"]: row["dominated_by"] for row in listed} == {
        "cnn.onnx-fp32.cpu": "",
        "mlp.onnx-fp32.cpu": "cnn.onnx-fp32.cpu",
    }
    assert "dominated by" in (await asyncio.to_thread(connected, "variants")).stdout
    drawn = (await asyncio.to_thread(connected, "variants", "plot", "digits")).stdout
    assert any(line.endswith("b") and "A" in line for line in drawn.splitlines())
    image = tmp_path / "digits.png"
    assert (await asyncio.to_thread(connected, "variants", "plot", "digits", "--image", str(image))).exit_code == 0
    assert image.exists()
    assert "no task 'nobody'" in (await asyncio.to_thread(connected, "variants", "plot", "nobody")).stderr


def test_register_dry_run_inspects_exported_folder(
    shell: Shell, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "exported"
    openvino_files(make_model(), folder / "openvino_model.xml")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    rows = json.loads(shell("register", str(folder), "--dry-run", "--json").stdout)
    assert {row["label"]: row["reason"] for row in rows if row["hardware"] == "cpu"}["openvino-fp32"] == ""
