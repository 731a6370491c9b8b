"""Tests of a chaos campaign: a fault that cannot be inflicted is reported and does not end the campaign."""

import asyncio
import random
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from bench.chaos.campaign import CampaignReport, FaultReport, inflict
from bench.chaos.faults import Arena, FaultScenario
from bench.chaos.ledger import OK, Ledger
from bench.chaos.traffic import CLIENTS
from tests.load import Pace

if TYPE_CHECKING:
    from bench.chaos.site import Site


async def answer_all(ledger: Ledger) -> None:
    numbers = count()
    async for _ in Pace(50):
        for client in CLIENTS:
            query_id = f"run-{client}-{next(numbers)}"
            ledger.ask(client, query_id, time.monotonic())
            ledger.close(query_id, OK, time.monotonic())


async def no_process(_arena: Arena) -> None:
    raise TimeoutError("no worker came")


async def test_inflict_reports_a_fault_that_raises(tmp_path: Path) -> None:
    ledger = Ledger()
    site = cast("Site", SimpleNamespace(memory_mib=dict, system=SimpleNamespace(home=tmp_path)))
    arena = Arena(site=site, ledger=ledger, rng=random.Random(1), run="run", stop_s=0.0, outage_s=0.0)
    answering = asyncio.create_task(answer_all(ledger))
    found = await inflict(FaultScenario("SIGKILL of a worker", no_process), arena, time.monotonic())
    answering.cancel()
    assert (found.lost, found.recovered_s is None) == (0, False)
    assert "no worker came" in found.problem
    assert not report(found).passed


async def test_inflict_reports_a_fault_that_missed_its_target(tmp_path: Path) -> None:
    ledger = Ledger()
    site = cast("Site", SimpleNamespace(memory_mib=dict, system=SimpleNamespace(home=tmp_path)))
    arena = Arena(site=site, ledger=ledger, rng=random.Random(1), run="run", stop_s=0.0, outage_s=0.0)
    answering = asyncio.create_task(answer_all(ledger))
    fault = FaultScenario("model crashes", no_fault, missed=lambda _arena: "the model answered")
    found = await inflict(fault, arena, time.monotonic())
    answering.cancel()
    assert found.problem == "the model answered"
    assert not report(found).passed


async def no_fault(_arena: Arena) -> None:
    pass


def report(*faults: FaultReport) -> CampaignReport:
    return CampaignReport(
        seed=1, rate=1.0, minutes=1.0, asked=1, lost=0, shown_twice=0, repeated=0, behind={}, waiting=0, outcomes={},
        dead_letters={}, memory_mib={}, faults=list(faults), ended=True,
    )  # fmt: skip
