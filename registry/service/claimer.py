"""Claims waiting registrations and supervises the processes that execute them.

A process that ends without an outcome, for example after a crash or when memory ran out, is retried up to `max_crashes`
times. A process that exceeded its CPU limit is not retried, because a retry would exceed it too. An interrupted
process, because the registrar stops or Postgres is unavailable, does not count as a crash.
"""

import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from prometheus_client import Counter

from process.module_names import module_name
from process.outages import FailureLog
from process.pauses import wait_within
from process.subprocesses import end_words, log_tail, running
from registry.service.settings import RegistrarSettings
from schemas.errors import OperatorError
from schemas.rows.registrations import ClaimedRegistration
from store.errors import StoreUnavailable
from store.pool import Pool
from store.registrations import REGISTRATION_CLAIMS, claim_registration, end_registration

log = logging.getLogger(__name__)

INTERRUPTED: Final = os.EX_TEMPFAIL
"""Exit code of a process that must be started again, because a dependency is unavailable."""
REFUSED: Final = os.EX_DATAERR
"""Exit code of a process whose registration failed, with a reason for its user."""
CANCELLED: Final = os.EX_NOINPUT
"""Exit code of a process whose registration was cancelled, or claimed by another registrar."""
_OUTCOMES: Final = {os.EX_OK: "registered", REFUSED: "refused", CANCELLED: "cancelled", INTERRUPTED: "interrupted"}
_CRASHED: Final = "crashed"
_ENDED: Final = Counter("infaas_registrar_processes_total", "Registration processes that ended.", ["outcome"])
for _outcome in (*_OUTCOMES.values(), _CRASHED):
    _ENDED.labels(_outcome)  # else Prometheus does not see the first one as an increase
_AGAIN_S: Final = 1.0
_RELEASE_S: Final = 2.0
_MOST_BEGUN: Final = 20


class RegistrationClaimer:
    """Claims registrations for one registrar and supervises their processes.

    `folder` is the working folder of the registrar, `name` its unique name in the claims.
    """

    def __init__(self, pool: Pool, settings: RegistrarSettings, folder: Path, name: str) -> None:
        self._pool = pool
        self._settings = settings
        self._folder = folder
        self._name = name
        self._free = asyncio.Semaphore(settings.at_once)
        self._news = asyncio.Event()
        self._failures = FailureLog("looking for registrations", "registrations wait")
        self._disk = FailureLog("creating the working folder", "it waits")

    def wake(self) -> None:
        """Look for registrations at once: one was requested or has ended."""
        self._news.set()

    async def run(self) -> None:
        """Execute registrations until cancelled, then release the running ones."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._free.acquire()
                self._news.clear()
                claim = await self._claim()
                if claim is not None:
                    tasks.create_task(self._do_and_free(claim), name=f"registration {claim.id}")
                else:
                    self._free.release()
                    await wait_within(self._settings.silent_s, self._news)  # a registrar that dies does not notify

    async def _claim(self) -> ClaimedRegistration | None:
        try:
            claim = await claim_registration(
                self._pool, self._name, self._settings.silent_s, max(1, self._settings.at_once - 1)
            )  # a registration that waits for a worker may wait indefinitely: keep one place free
        except StoreUnavailable as error:
            self._failures.failed(error)
            return None
        self._failures.recovered()
        return claim

    async def _do_and_free(self, claim: ClaimedRegistration) -> None:
        try:
            await self._do(claim)
        except StoreUnavailable as error:  # the claim expires after `silent_s`
            self._failures.failed(error)
        finally:
            self._free.release()

    async def _do(self, claim: ClaimedRegistration) -> None:
        if claim.crashes >= self._settings.max_crashes or claim.attempts > _MOST_BEGUN:
            error = f"given up after {claim.attempts - 1} attempts: {claim.reason or 'the registrar ended each time'}"
            await end_registration(self._pool, claim, [], error)
            return
        log.info("registration %s, attempt %d", claim.id, claim.attempts)
        try:
            reason = await self._reason_to_do_it_again(claim)
        except asyncio.CancelledError:
            await self._give_back(claim)
            raise
        except (OSError, OperatorError) as error:  # e.g. a full disk: not an error of the request
            self._disk.failed(error)
            reason = ""
        else:
            self._disk.recovered()
        if reason is not None:
            await REGISTRATION_CLAIMS.release(self._pool, claim, reason)
            await asyncio.sleep(_AGAIN_S)

    async def _reason_to_do_it_again(self, claim: ClaimedRegistration) -> str | None:
        """Run the process of a registration and return the reason to retry it.

        None: do not retry, because it ended with an outcome or the claim was lost. An empty reason: the process was
        interrupted, which does not count as a crash.
        """
        folder = self._folder / f"{claim.id}-{claim.epoch}"
        await asyncio.to_thread(folder.mkdir)
        command = (
            sys.executable,
            "-m",
            module_name("registry.service.registration_process"),
            claim.id,
            str(claim.epoch),
            folder,
        )
        output = folder / "log"
        try:
            async with running(command, output, env=self._environment(folder)) as process:
                await self._watch(process, claim)
                code = process.returncode
            tail = await asyncio.to_thread(log_tail, output)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if code is None:
            return None
        _ENDED.labels(_OUTCOMES.get(code, _CRASHED)).inc()
        if code in _OUTCOMES:
            return "" if code == INTERRUPTED else None
        log.warning("registration %s, attempt %d ended with code %d:\n%s", claim.id, claim.attempts, code, tail)
        if code == -signal.SIGXCPU:
            error = "reading its files exceeded the CPU limit"
            await end_registration(self._pool, claim, [], error)
            return None
        return end_words(code)

    async def _watch(self, process: asyncio.subprocess.Process, claim: ClaimedRegistration) -> None:
        """Wait until the process ends or the claim is lost; renew the claim meanwhile."""
        async with asyncio.TaskGroup() as tasks:
            end = tasks.create_task(process.wait())
            while not (await asyncio.wait({end}, timeout=self._settings.renew_s))[0]:
                try:
                    ours = await REGISTRATION_CLAIMS.renew(self._pool, claim)
                except StoreUnavailable as error:  # no other registrar can claim it either
                    self._failures.failed(error)
                    continue
                if not ours:
                    log.info("registration %s has ended, or another registrar has claimed it", claim.id)
                    end.cancel()
                    return

    def _environment(self, folder: Path) -> Mapping[str, str]:
        own = {"INFAAS_HOME": str(self._settings.home.absolute()), "TMPDIR": str(folder)}
        return {**os.environ, **own, "INFAAS_ARTIFACTS": self._settings.artifacts}

    async def _give_back(self, claim: ClaimedRegistration) -> None:
        try:
            async with asyncio.timeout(_RELEASE_S):
                await REGISTRATION_CLAIMS.release(self._pool, claim)
        except (StoreUnavailable, TimeoutError):
            log.warning("registration %s was not released; its claim will expire", claim.id)
