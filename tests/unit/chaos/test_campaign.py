"""Tests of a chaos campaign: a fault that cannot be inflicted is reported and does not end the campaign."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from tests.chaos.campaign import CampaignReport, FaultReport, inflict
from tests.chaos.faults import Arena, FaultScenario
from tests.chaos.ledger import OK, Ledger
from tests.chaos.traffic import CLIENTS
from tests.waiting import PATIENCE_S

if TYPE_CHECKING:
    from tests.chaos.site import Site


@asynccontextmanager
async def answering(home: Path) -> AsyncGenerator[Arena]:
    """Answer a query of each client in each turn of the event loop."""
    ledger = Ledger()
    site = cast("Site", SimpleNamespace(memory_mib=dict, system=SimpleNamespace(home=home)))

    async def answer_all() -> None:
        for number in count():
            for client in CLIENTS:
                query_id = f"run-{client}-{number}"
                ledger.ask(client, query_id, time.monotonic())
                ledger.close(query_id, OK, time.monotonic())
            await asyncio.sleep(0)

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(answer_all())
        yield Arena(site=site, ledger=ledger, rng=random.Random(1), run="run", stop_s=0.0, outage_s=0.0)
        running.cancel()


async def no_process(_arena: Arena) -> None:
    raise TimeoutError("no worker came")


async def test_inflict_reports_a_fault_that_raises(tmp_path: Path) -> None:
    async with answering(tmp_path) as arena:
        found = await inflict(FaultScenario("SIGKILL of a worker", no_process), arena, time.monotonic())
    assert (found.lost, found.recovered_s is None) == (0, False)
    assert "no worker came" in found.problem
    assert not report(found).passed


async def test_inflict_reports_a_fault_that_missed_its_target(tmp_path: Path) -> None:
    fault = FaultScenario("model crashes", no_fault, missed=lambda _arena: "the model answered")
    async with answering(tmp_path) as arena:
        found = await inflict(fault, arena, time.monotonic())
    assert found.problem == "the model answered"
    assert not report(found).passed


async def no_fault(_arena: Arena) -> None:
    pass


def report(*faults: FaultReport) -> CampaignReport:
    return CampaignReport(
        seed=1, rate=1.0, minutes=1.0, asked=1, lost=0, shown_twice=0, repeated=0, behind={}, waiting=0, outcomes={},
        dead_letters={}, memory_mib={}, faults=list(faults), ended=True,
    )  # fmt: skip
