"""Tests of `infaas scale`: output, changes and refusals."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infaas.cli.output import EXIT_QUERY, EXIT_SETUP
from schemas.rows.cluster import DecisionKind, DecisionRow, PinKind, WantedWorkers
from store.placement import put_instances, register_worker
from store.pool import Pool
from store.samples import list_decisions, write_decisions
from store.scaling import drain_workers, get_control, list_pins, put_wanted
from store.shared_connection import SCALE, ChangeListener
from tests.doc_commands import block, run_commands
from tests.example_rows import a_worker, an_instance
from tests.processes import environment
from tests.unit.infaas.shell import Shell

VARIANT = "mlp.onnx-fp32.cpu"
PLACED = DecisionRow(
    at=datetime(2026, 11, 25, tzinfo=UTC), action="place", variant=VARIANT, worker="cpu-0", reason="load [of 5/s]",
    policy="milp", inputs={"memory_bytes": 7}, explanation={"usd_per_hour": 0.25},
)  # fmt: skip


async def test_scale_status_shows_wanted_workers_and_instances(registered: Shell, store_pool: Pool) -> None:
    for worker in (a_worker("cpu-0"), a_worker("cpu-1")):
        await register_worker(store_pool, worker)
    await put_instances(store_pool, [an_instance(VARIANT, "cpu-0", (0, 1, 3))])
    await drain_workers(store_pool, ["cpu-1"])
    await put_wanted(store_pool, [WantedWorkers(hardware="cpu", count=3, reason="load of 5/s")])
    shown = (await asyncio.to_thread(registered, "scale", "status")).stdout
    assert cells(shown, "load of 5/s")[:4] == ["cpu", "3", "1", "1"]
    assert cells(shown, "draining for")[0] == "cpu-1"
    assert cells(shown, "for a test") == [VARIANT, "cpu-0", "inactive", "0-1, 3", "32", "for a test"]
    whole = json.loads((await asyncio.to_thread(registered, "scale", "status", "--json")).stdout)
    assert [worker["name"] for worker in whole["workers"]] == ["cpu-0", "cpu-1"]
    assert whole["control"]["paused"] is False


def cells(table: str, marked: str) -> list[str]:
    """Return the cells of the only line that contains the text."""
    [line] = (line for line in table.splitlines() if marked in line)
    return [cell.strip() for cell in line.strip("│").split("│")]


async def test_scale_history_and_explain_show_decisions(registered: Shell, store_pool: Pool) -> None:
    await write_decisions(
        store_pool,
        [PLACED, DecisionRow(at=PLACED.at, kind=DecisionKind.WORKER, action="start", worker="cpu-1", reason="more")],
    )
    shown = (await asyncio.to_thread(registered, "scale", "history")).stdout
    assert cells(shown, "load [of 5/s]")[1:] == ["place", f"{VARIANT} on cpu-0", "milp", "load [of 5/s]"]
    assert shown.index("load [of 5/s]") < shown.index("more")
    only = json.loads((await asyncio.to_thread(registered, "scale", "history", "cpu-1", "--json")).stdout)
    assert [row["worker"] for row in only] == ["cpu-1"]
    explained = (await asyncio.to_thread(registered, "scale", "explain", "mlp")).stdout
    assert all(word in explained for word in ("memory_bytes", "7", "usd_per_hour", "0.25", "load [of 5/s]"))
    nothing = await asyncio.to_thread(registered, "scale", "explain", "nobody")
    assert nothing.exit_code == EXIT_SETUP
    assert "there is no decision about 'nobody'" in nothing.stderr


async def test_scale_pin_and_unpin_change_and_log_pins(registered: Shell, store_pool: Pool) -> None:
    for words in (("hardware", "cpu", "--min", "1", "--max", "4"), ("variant", VARIANT, "--min=2")):
        shown = await asyncio.to_thread(registered, "scale", "pin", *words)
        assert shown.exit_code == 0, shown.stderr
    assert "at least 2" in shown.stderr
    assert [(p.kind, p.name, p.minimum, p.maximum) for p in await list_pins(store_pool)] == [
        (PinKind.HARDWARE, "cpu", 1, 4),
        (PinKind.VARIANT, VARIANT, 2, None),
    ]
    made = json.loads(
        (await asyncio.to_thread(registered, "scale", "pin", "task", "digits", "--max=9", "--json")).stdout
    )
    assert (made["kind"], made["maximum"]) == ("task", 9)
    assert "Pins" in (await asyncio.to_thread(registered, "scale", "status")).stdout
    gone = await asyncio.to_thread(registered, "scale", "unpin", "variant", VARIANT)
    again = await asyncio.to_thread(registered, "scale", "unpin", "variant", VARIANT)
    assert (gone.exit_code, again.exit_code) == (0, EXIT_SETUP)
    rows = await list_decisions(store_pool)
    assert [row.action for row in rows] == ["unpin", "pin", "pin", "pin"]
    assert {row.kind for row in rows} == {DecisionKind.CONTROL}
    assert "task digits" in rows[1].reason
    assert [row.action for row in await list_decisions(store_pool, about="digits")] == ["unpin", "pin", "pin"]


async def test_documented_commands_show_and_limit_scaling(
    registered: Shell, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    """The commands of `docs/operation.md`."""
    env = environment({"INFAAS_HOME": str(tmp_path), "INFAAS_POSTGRES": database})
    assert "Workers" in await run_commands(block("docs/operation.md#1"), tmp_path, env)
    assert [(p.name, p.minimum, p.maximum) for p in await list_pins(store_pool)] == [("cpu", 2, 3)]


@pytest.mark.parametrize(
    ("words", "says", "exits"),
    [
        (("hardware", "gpu", "--min=1"), "cpu, cuda, neuron", EXIT_SETUP),
        (("task", "nobody", "--min=1"), "infaas tasks", EXIT_SETUP),
        (("variant", "nobody", "--min=1"), "infaas variants", EXIT_SETUP),
        (("task", "digits"), "--min", EXIT_QUERY),
        (("task", "digits", "--min=3", "--max=2"), "more than", EXIT_QUERY),
    ],
)
def test_scale_pin_refuses_invalid_pins_in_one_line(
    registered: Shell, words: tuple[str, ...], says: str, exits: int
) -> None:
    shown = registered("scale", "pin", *words)
    assert shown.exit_code == exits
    assert says in shown.stderr
    assert shown.stderr.count("\n") == 1


async def test_scale_pause_and_resume_notify_and_show(registered: Shell, store_pool: Pool, database: str) -> None:
    async with ChangeListener(database, [SCALE]) as changes, asyncio.timeout(60):
        await anext(changes)
        assert (await asyncio.to_thread(registered, "scale", "pause")).exit_code == 0
        assert await anext(changes) == SCALE
    assert "as before" in (await asyncio.to_thread(registered, "scale", "pause")).stderr
    control = await get_control(store_pool)
    assert control.paused
    shown = (await asyncio.to_thread(registered, "scale", "status")).stdout
    assert f"paused by {control.changed_by}" in shown
    assert (await asyncio.to_thread(registered, "scale", "resume")).exit_code == 0
    assert not (await get_control(store_pool)).paused
    assert [row.action for row in await list_decisions(store_pool)] == ["resume", "pause"]
