"""Corrected profile: the registered latency times the long-term factor observed on this worker.

The correction is stored in Postgres, so that it survives the process. It is deleted when the variant is measured again.
During an outage of Postgres the correction still applies, and a successor learns it again.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from schemas.latency import LatencyModel
from schemas.rows.catalog import Profile
from store.errors import StoreUnavailable
from store.registry import list_corrections, put_correction
from workers.context import WorkerContext
from workers.serving.health import QUIET_CPU, Correction, DriftMeter
from workers.serving.model import ServableModel, find_model

log = logging.getLogger(__name__)

_UNKNOWN: Final = 1.0


class CorrectedProfile:
    """Profile of one variant on this worker; `on_change` is called when predictions must be updated."""

    def __init__(self, variant: str, context: WorkerContext, on_change: Callable[[], None]) -> None:
        self._variant = variant
        self._settings = context.settings
        self._pool = context.pool
        self._catalog = context.catalog
        self._cpu = context.executor.cpu
        self._on_change = on_change
        self._profile: Profile | None = None
        self._meter = DriftMeter(context.settings.drift_window_s)
        self._found: Correction | None = None

    def model(self, max_batch: int) -> ServableModel:
        """Return the variant's model with the current predictions; raises the errors of `find_model`."""
        return find_model(self._catalog.current, self._variant, max_batch, self._meter.factor)

    async def read(self) -> None:
        """Load the correction that an earlier process of this worker has stored."""
        self._profile, factor = self._registered(), _UNKNOWN
        try:
            rows = await list_corrections(self._pool, variant=self._variant, worker=self._settings.worker)
            factor = rows[0].factor if rows else _UNKNOWN
        except StoreUnavailable as error:
            log.warning("predictions of %s use the profile without correction: %s", self._variant, error)
        self._begin(factor)

    def computed(self, latency: LatencyModel, seconds: float, predicted_s: float, now_s: float) -> None:
        """Record a batch that computed alone on this worker, with the seconds that `latency` predicted."""
        if self._cpu.busy() > QUIET_CPU:
            return
        self._found = self._meter.computed(seconds, predicted_s / latency.correction, now_s) or self._found
        if self._found is not None:
            self._on_change()

    def check(self) -> None:
        """Call `on_change` if the variant was measured again."""
        if self._registered() != self._profile:
            self._on_change()

    async def follow(self) -> bool:
        """Apply new observations and measurements. Returns true if predictions changed."""
        registered = self._registered()
        if registered != self._profile:
            self._profile, self._found = registered, None
            self._begin(_UNKNOWN)
            return True
        found, self._found = self._found, None
        if found is None or registered is None:
            return False
        seen_s = time.monotonic() - found.since_s
        log.warning(
            "%s has taken %.2f times the profiled latency for %.0f s without visible interference; predictions are "
            "corrected; `infaas register ... --again` measures again",
            self._variant,
            found.factor,
            seen_s,
        )
        try:
            await put_correction(self._pool, registered, self._settings.worker, found.factor, seen_s)
        except StoreUnavailable as error:
            log.warning("the correction of %s was not stored: %s", self._variant, error)
        return True

    def _begin(self, factor: float) -> None:
        even = self._profile is None or not any(point.mean_s is not None for point in self._profile.latency)
        self._meter = DriftMeter(self._settings.drift_window_s, factor, even=even)

    def _registered(self) -> Profile | None:
        return self._catalog.current.profiles.get(self._variant)
