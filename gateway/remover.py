"""Removals that gateways accepted, done by one of them: whichever takes a removal first, one at a time.

    accepted -> taken -> (this gateway ends: given back, or silent for some seconds -> taken by another ->) over

Postgres or Kafka may be away for however long: who has taken a removal waits, tries again, and it counts for nothing.
What a removal does is in `admin/removals.py`, which is imported when there is one: most gateways never have one.
Nothing of it is on any query's way.
"""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from broker.client import ping
from broker.settings import KafkaSettings
from process.error_groups import leaves
from process.failure_log import FailureLog
from schemas.errors import InfaasError, NotFound, OperatorError
from schemas.rows.removals import RemovalReport, RemovalRow
from store.change_listener import REMOVALS, ChangeListener
from store.errors import StoreUnavailable
from store.pool import open_pool
from store.removal_queue import STALE_S, any_running, beat_removal, claim_removal, end_removal, release_removal
from store.shared_connection import SharedConnection

log = logging.getLogger(__name__)

_BEAT_S: Final = 1.0
_AGAIN_S: Final = 1.0
_CONNECTIONS: Final = 2
_MOST_ATTEMPTS: Final = 10
"""Times that a removal is taken up again after it was cut off, before it is given up: it may be what cuts it off."""


class _Outcome(NamedTuple):
    report: RemovalReport | None = None
    error: str = ""


class RemovalProgress:
    """How far a removal is, as whoever does it says."""

    def __init__(self) -> None:
        self.said = (0, 0, "")

    def note(self, text: str) -> None:
        """Take no note: nobody looks on."""

    def step(self, done: int, total: int, text: str) -> None:
        """Take note that `done` of `total` steps are finished."""
        self.said = (done, total, text)


class Remover:
    """What does the removals of a gateway.

    Args:
        connection: Hears of removals and keeps how far they are; shared with others, whom nothing here holds up.
        dsn: Where a removal, while it runs, has connections of its own.
        kafka: How it reaches Kafka.
        home: Where it keeps what it needs.
        artifacts: Where files of models are; empty: in the home.
    """

    def __init__(
        self, connection: SharedConnection, dsn: str, kafka: KafkaSettings, home: Path, artifacts: str
    ) -> None:
        self._connection = connection
        self._dsn = dsn
        self._kafka = kafka
        self._home = home
        self._artifacts = artifacts
        self._failures = FailureLog("removing what was accepted", "it waits")

    async def run(self) -> None:
        """Do what is accepted, until this is cancelled: what is not over then is given back.

        While others do some, it is looked each `STALE_S` whether these still live.
        """
        async with ChangeListener(self._connection, [REMOVALS]) as changes:
            while True:
                others = True
                try:
                    while (row := await claim_removal(self._connection)) is not None:
                        await self._do(row)
                    others = await any_running(self._connection)
                except StoreUnavailable as error:
                    log.warning("removals wait: %s", error)
                except Exception:  # a row that nobody can read must not take the gateway with it
                    log.exception("removals wait")
                with suppress(TimeoutError):
                    async with asyncio.timeout(STALE_S if others else None):
                        await anext(changes)

    async def _do(self, row: RemovalRow) -> None:
        """Do a removal that was taken, and note what came of it.

        Raises:
            StoreUnavailable: it cannot be noted; whoever takes it next finds out.
        """
        if row.attempts > _MOST_ATTEMPTS:
            return await end_removal(self._connection, row, error=f"cut off {_MOST_ATTEMPTS} times; ask again to go on")
        log.info("removing %s, as %s asked", row.name, row.actor)
        progress = RemovalProgress()
        try:
            async with asyncio.TaskGroup() as tasks:
                beating = tasks.create_task(self._beat(row, progress), name="beat")
                while (outcome := await self._outcome(row, progress)) is None:  # noqa: ASYNC110 - none tells
                    await asyncio.sleep(_AGAIN_S)
                beating.cancel()
        except asyncio.CancelledError:
            await self._release(row)
            raise
        self._failures.recovered()
        return await end_removal(self._connection, row, outcome.report, outcome.error)

    async def _outcome(self, row: RemovalRow, progress: RemovalProgress) -> _Outcome | None:
        """What has gone, or why it has not; None: nobody knows, since Postgres or Kafka was away."""
        try:
            admin = await asyncio.to_thread(_import_admin)
            async with open_pool(self._dsn, min_size=0, max_size=_CONNECTIONS) as pool:
                control = admin.Control(
                    pool=pool,
                    find_kafka=lambda: self._kafka,
                    artifacts=self._artifacts,
                    home=self._home,
                    principal=row.principal,
                    actor=row.actor,
                    origin=row.origin,
                )
                return _Outcome(await admin.remove(control, self._dsn, row.request, progress))
        except NotFound:  # gone, by somebody else, or by who was cut off before that was noted
            return _Outcome()
        except StoreUnavailable as error:
            self._failures.failed(error)
            return None
        except InfaasError as error:
            if isinstance(error, OperatorError) and await self._kafka_was_away(progress):
                return None
            return _Outcome(error=str(error))
        except Exception as error:  # a defect of a removal must not take the gateway with it
            causes = leaves(error) if isinstance(error, ExceptionGroup) else [error]
            if away := next((cause for cause in causes if isinstance(cause, StoreUnavailable)), None):
                self._failures.failed(away)
                return None
            log.exception("removing %s", row.name)
            return _Outcome(error="it failed, and the gateway's log says why; ask again to go on")

    async def _kafka_was_away(self, progress: RemovalProgress) -> bool:
        """Wait until Kafka answers; whether it did not at once, which is then why a removal failed."""
        away = False
        while True:
            try:
                await ping(self._kafka)
            except OperatorError as error:
                away = True
                self._failures.failed(error)
                progress.step(*progress.said[:2], "waiting until Kafka answers")
                await asyncio.sleep(_AGAIN_S)
            else:
                return away

    async def _beat(self, row: RemovalRow, progress: RemovalProgress) -> None:
        while True:
            with suppress(StoreUnavailable):
                await beat_removal(self._connection, row, *progress.said)
            await asyncio.sleep(_BEAT_S)

    async def _release(self, row: RemovalRow) -> None:
        with suppress(StoreUnavailable):
            await release_removal(self._connection, row)


def _import_admin() -> Any:
    from admin import removals

    return removals
