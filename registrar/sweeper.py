"""Deletes unused uploads, old registrations and old files of builds.

Files of builds are deleted here because no later build may come that would delete them. Every registrar runs a sweeper;
a second one finds nothing left to delete.
"""

import asyncio

from process.failure_log import FailureLog
from registrar import metrics
from registrar.settings import RegistrarSettings
from registry.artifacts import ArtifactStore
from schemas.errors import OperatorError
from schemas.rows.builds import BUILDS_KEPT_S
from store.errors import StoreUnavailable
from store.pool import Pool
from store.registrations import forget_registrations
from store.uploads import sweep_uploads


class RegistrationCleanup:
    """Deletes expired uploads, registrations and files of builds at intervals."""

    def __init__(
        self, pool: Pool, uploads: ArtifactStore, exchange: ArtifactStore, settings: RegistrarSettings
    ) -> None:
        self._pool = pool
        self._uploads = uploads
        self._exchange = exchange
        self._settings = settings
        self._failures = FailureLog("deleting expired uploads", "uploads are kept")

    async def run(self) -> None:
        """Clean up at intervals until cancelled."""
        while True:
            try:
                await self.sweep()
            except (StoreUnavailable, OperatorError, OSError) as error:
                self._failures.failed(error)
            else:
                self._failures.recovered()
            await asyncio.sleep(self._settings.tidy_interval_s)

    async def sweep(self) -> None:
        """Delete everything whose retention time has passed."""
        await forget_registrations(self._pool, self._settings.retention_s)
        swept = await sweep_uploads(self._pool, self._settings.upload_retention_s, self._discard)
        metrics.SWEPT.inc(swept)
        await asyncio.to_thread(self._exchange.discard_older, BUILDS_KEPT_S)

    async def _discard(self, sha256: str) -> None:
        await asyncio.to_thread(self._uploads.discard, sha256)
