"""Executes removals that gateways accepted; any gateway may claim a removal, and executes one at a time.

    accepted -> claimed -> (gateway stops: released; gateway silent: claimed by another ->) ended

If Postgres or Kafka is unavailable, the claimant waits and retries without a limit; this does not count as an attempt.
Removals do not delay queries.
"""

import asyncio
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from broker.kafka.cluster import ping
from broker.kafka.settings import KafkaSettings
from process.errors import leaves
from process.outages import FailureLog
from registry.artifact_settings import open_artifacts, open_exchange
from registry.removal import unregister
from schemas.errors import InfaasError, NotFound, OperatorError
from schemas.rows.audit import AuditAct, AuditVerb
from schemas.rows.removals import RemovalReport, RemovalRow
from store.audit import audited
from store.errors import StoreUnavailable
from store.pool import open_pool
from store.removals import REMOVAL_CLAIMS, STALE_S, any_running, end_removal
from store.shared_connection import REMOVALS, ChangeListener, SharedConnection

log = logging.getLogger(__name__)

_BEAT_S: Final = 1.0
_AGAIN_S: Final = 1.0
_CONNECTIONS: Final = 2
_MOST_ATTEMPTS: Final = 10
"""Number of times that an interrupted removal is claimed again before it fails: the removal may cause the interruption.
"""


class _Outcome(NamedTuple):
    report: RemovalReport | None = None
    error: str = ""


class RemovalProgress:
    """Progress of a removal, as last reported."""

    def __init__(self) -> None:
        self.last = (0, 0, "")

    def note(self, text: str) -> None:
        """Ignore a note: it has no reader."""

    def step(self, done: int, total: int, text: str) -> None:
        """Record that `done` of `total` steps are finished."""
        self.last = (done, total, text)


class Remover:
    """Executor of removals in a gateway.

    Args:
        connection: receives notifications and stores progress; it is shared, so nothing may block it.
        dsn: database for the removal's own connections.
        kafka: settings of Kafka.
        home: home folder of the gateway.
        artifacts: location of model files; empty for the default in the home folder.
    """

    def __init__(
        self, connection: SharedConnection, dsn: str, kafka: KafkaSettings, home: Path, artifacts: str
    ) -> None:
        self._connection = connection
        self._dsn = dsn
        self._kafka = kafka
        self._place = artifacts, home
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._failures = FailureLog("removing what was accepted", "it waits")

    async def run(self) -> None:
        """Execute accepted removals until cancelled; release an unfinished one then.

        While other gateways execute removals, check every `STALE_S` if their claims have expired.
        """
        async with ChangeListener(self._connection, [REMOVALS]) as changes:
            while True:
                others = True
                try:
                    while (row := await REMOVAL_CLAIMS.claim(self._connection, self._name, STALE_S)) is not None:
                        await self._do(row)
                    others = await any_running(self._connection)
                except StoreUnavailable as error:
                    log.warning("removals wait: %s", error)
                except Exception:  # an unreadable row must not end the gateway
                    log.exception("removals wait")
                with suppress(TimeoutError):
                    async with asyncio.timeout(STALE_S if others else None):
                        await anext(changes)

    async def _do(self, row: RemovalRow) -> None:
        """Execute a claimed removal and store its outcome.

        Raises:
            StoreUnavailable: the outcome could not be stored; the next claimant finds the removal done.
        """
        if row.attempts > _MOST_ATTEMPTS:
            return await end_removal(self._connection, row, error=f"cut off {_MOST_ATTEMPTS} times; ask again to go on")
        log.info("removing %s, as %s asked", row.name, row.actor)
        progress = RemovalProgress()
        try:
            async with asyncio.TaskGroup() as tasks:
                renewal = tasks.create_task(self._renew(row, progress), name="renew the removal's claim")
                while (outcome := await self._outcome(row, progress)) is None:  # noqa: ASYNC110 - no event of a recovery
                    await asyncio.sleep(_AGAIN_S)
                renewal.cancel()
        except asyncio.CancelledError:
            with suppress(StoreUnavailable):
                await REMOVAL_CLAIMS.release(self._connection, row)
            raise
        self._failures.recovered()
        return await end_removal(self._connection, row, outcome.report, outcome.error)

    async def _outcome(self, row: RemovalRow, progress: RemovalProgress) -> _Outcome | None:
        """Return the outcome of an attempt; None if it is unknown, since Postgres or Kafka was unavailable."""
        try:
            return _Outcome(await self._remove(row, progress))
        except NotFound:  # removed by another, or by an interrupted attempt
            return _Outcome()
        except StoreUnavailable as error:
            self._failures.failed(error)
            return None
        except InfaasError as error:
            if isinstance(error, OperatorError) and await self._kafka_was_away(progress):
                return None
            return _Outcome(error=str(error))
        except Exception as error:  # a defect in a removal must not end the gateway
            causes = leaves(error) if isinstance(error, ExceptionGroup) else [error]
            if away := next((cause for cause in causes if isinstance(cause, StoreUnavailable)), None):
                self._failures.failed(away)
                return None
            log.exception("removing %s", row.name)
            return _Outcome(error="it failed, and the gateway's log says why; ask again to go on")

    async def _remove(self, row: RemovalRow, progress: RemovalProgress) -> RemovalReport | None:
        act = AuditAct(
            actor=row.actor, origin=row.origin, verb=AuditVerb.UNREGISTER, subject=row.request.name,
            detail={"force": row.request.force},
        )  # fmt: skip
        stores = await asyncio.to_thread(lambda: (open_artifacts(*self._place), open_exchange(*self._place)))
        async with open_pool(self._dsn, min_size=0, max_size=_CONNECTIONS) as pool, audited(pool, act):
            return await unregister.unregister(
                row.request, pool, self._dsn, self._kafka, *stores, progress, row.principal
            )

    async def _kafka_was_away(self, progress: RemovalProgress) -> bool:
        """Wait until Kafka answers; return true if it did not at once, which explains the failure of a removal."""
        away = False
        while True:
            try:
                await ping(self._kafka)
            except OperatorError as error:
                away = True
                self._failures.failed(error)
                progress.step(*progress.last[:2], "waiting until Kafka answers")
                await asyncio.sleep(_AGAIN_S)
            else:
                return away

    async def _renew(self, row: RemovalRow, progress: RemovalProgress) -> None:
        while True:
            with suppress(StoreUnavailable):
                await REMOVAL_CLAIMS.renew(self._connection, row, *progress.last)
            await asyncio.sleep(_BEAT_S)
