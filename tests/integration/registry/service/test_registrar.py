"""Tests of the registrar: it executes waiting registrations and reports their outcomes."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest
from prometheus_client import REGISTRY

from registry.artifact_settings import open_exchange
from registry.service.claimer import CANCELLED
from schemas.access import Access, Visibility
from schemas.registrations import RegistrationState
from store.registrations import cancel_registration, claim_registration
from store.tenants import get_access
from tests.integration.registry.service.conftest import Bureau
from tests.processes import output_of, words_of
from tests.waiting import read_until, until


async def worker_of(bureau: Bureau, registration: str) -> int:
    """Return the process id of the registrar that executes a registration."""
    name = await bureau.pool.fetch_value(str, "SELECT worker FROM registrations WHERE id = $1", registration)
    return int((name or "-0").rpartition("-")[2])


async def working_folders(bureau: Bureau) -> list[Path]:
    """Return the working folders that registrars have locked."""
    return [lock.parent for lock in (bureau.home / "registrations").glob("*/lock")]


def processes_of(registrar: int) -> list[psutil.Process]:
    """Return the registration processes that a registrar has started."""
    children = psutil.Process(registrar).children()
    return [one for one in children if "registry.service.registration_process" in words_of(one)]


async def times_claimed(bureau: Bureau) -> int:
    return await bureau.pool.fetch_value(int, "SELECT sum(epoch)::bigint FROM registrations") or 0


async def test_registrar_reports_failures_and_ends_cancelled_ones(bureau: Bureau) -> None:
    """Covers a missing working folder, a cancellation, a wrong file, and a name of another tenant."""
    own = Access(owner="acme", visibility=Visibility.PRIVATE)
    wrong = await bureau.linear(validation=await bureau.upload(bureau.model))
    async with bureau.registrar():
        [folder] = await read_until(lambda: working_folders(bureau), bool)
        away = folder.rename(bureau.home / "away")
        cancelled = await bureau.ask(await bureau.linear(name="slow", hardware=("cuda",), if_no_worker="wait"))
        failing = await bureau.ask(wrong)
        mine = await bureau.ask(await bureau.linear("acme", name="mine", task="ours"), "acme", publisher=True)
        await read_until(lambda: times_claimed(bureau), lambda times: times > 3)
        away.rename(folder)  # the missing folder must not fail the registrations
        await read_until(lambda: bureau.status(cancelled), lambda one: "waiting until" in one.doing)
        assert await cancel_registration(bureau.pool, cancelled)
        failed, done = await asyncio.gather(bureau.ended(failing), bureau.ended(mine))
        again = await bureau.ask(await bureau.linear("globex", name="mine", task="ours"), "globex", publisher=True)
        refused = await bureau.ended(again)
    assert failed.state is RegistrationState.FAILED
    assert failed.error.startswith("linear.onnx "), failed.error
    assert str(bureau.home) not in failed.error
    assert (done.state, done.error) == (RegistrationState.DONE, "")
    assert {await get_access(bureau.pool, name) for name in ("mine", "ours")} == {own}
    assert refused.error == "the name mine is used by another tenant: choose another one"
    assert (await bureau.status(cancelled)).state is RegistrationState.CANCELLED


@pytest.mark.parametrize("cancelled", [True, False])
async def test_process_whose_claim_is_lost_has_an_outcome_of_its_own(
    bureau: Bureau, tmp_path: Path, cancelled: bool
) -> None:
    """A registration that was cancelled, or that another registrar has claimed, does not count as registered."""
    asked = await bureau.ask(await bureau.linear())
    claim = await claim_registration(bureau.pool, "other-registrar", 60.0, 1)
    assert claim is not None
    assert not cancelled or await cancel_registration(bureau.pool, asked)
    command = ("-m", "registry.service.registration_process", asked, str(claim.epoch - 1), tmp_path)
    code, output = await output_of(*command, env=bureau.environment)
    assert code == CANCELLED, output
    assert REGISTRY.get_sample_value("infaas_registrar_processes_total", {"outcome": "cancelled"}) == 0


async def test_registration_over_the_cpu_limit_is_not_retried(bureau: Bureau) -> None:
    """The kernel ends the process with SIGXCPU; a retry would exceed the limit again."""
    asked = await bureau.ask(await bureau.linear(hardware=("cuda",), if_no_worker="wait"))
    async with bureau.registrar() as registrar:
        [process] = await until(lambda: processes_of(registrar))
        process.send_signal(signal.SIGXCPU)
        ended = await bureau.ended(asked)
    assert (ended.state, ended.attempts) == (RegistrationState.FAILED, 1)
    assert ended.error == "reading its files exceeded the CPU limit"


async def test_idle_registrar_deletes_old_build_files(bureau: Bureau) -> None:
    exchange = open_exchange("", bureau.home)
    old, young = exchange.put(bureau.model), exchange.put(bureau.samples)
    os.utime(exchange.path(old), (0, 0))
    async with bureau.registrar():
        await until(lambda: not exchange.has(old))
    assert exchange.has(young)
