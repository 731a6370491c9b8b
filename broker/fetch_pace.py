"""Longest time that the broker may hold a fetch: short while records arrive, longer while the reader is idle.

Most readers of a system are idle, and each empty fetch costs time on both sides. Apache Kafka answers a waiting fetch
as soon as a record arrives, so a longer wait adds no latency. The embedded broker does not; there, the first record
after an idle period is late by at most the longer wait.

If the broker does not wake fetches (`wakes` is false) and the settings do not set `fetch_max_wait_ms`, the shorter wait
is `UNWOKEN_MS`. `infaas up` sets `fetch_max_wait_ms` for its services; a client in another program asks the broker for
its features.

Pure: the caller passes the time.
"""

from typing import Final

from broker.settings import KafkaSettings

IDLE_FACTOR: Final = 20
"""Largest ratio of the longer wait to the shorter one, which is 500 ms on Apache Kafka and 10 ms on the embedded
broker."""
LONGEST_MS: Final = 5_000
UNWOKEN_MS: Final = 10
"""Shorter wait in ms if the broker does not wake a waiting fetch; an answer is late by at most this."""
_IDLE_AFTER_S: Final = 2.0
_LAZY_AFTER_S: Final = 0.25


class FetchPace:
    """Longest wait of each fetch of one reader."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        factor: int = IDLE_FACTOR,
        longest_ms: int = LONGEST_MS,
        lazy: bool = False,
        wakes: bool = True,
    ) -> None:
        """Compute the waits from the settings.

        Args:
            settings: the settings; `fetch_max_wait_ms` is the shorter wait.
            factor: largest ratio of the longer wait to the shorter one.
            longest_ms: upper bound of the longer wait.
            lazy: use the shorter wait only while records closely follow each other, not after a single record.
            wakes: true if the broker answers a waiting fetch as soon as a record arrives.
        """
        said = "fetch_max_wait_ms" in settings.model_fields_set
        self._short_ms = settings.fetch_max_wait_ms if wakes or said else UNWOKEN_MS
        longest_ms = min(factor * self._short_ms, longest_ms, settings.request_timeout_ms // 2)
        self.long_ms = max(self._short_ms, longest_ms)
        """Longest wait of a fetch while no records arrive, in ms."""
        self._idle_after_s = _LAZY_AFTER_S if lazy else _IDLE_AFTER_S
        self._lazy = lazy
        self._found_s: float | None = None
        self._idle_from_s: float | None = None

    def wait_ms(self, now_s: float) -> int:
        """Return the longest wait of a fetch that is sent now, in ms."""
        if self._idle_from_s is None:
            self._idle_from_s = now_s + self._idle_after_s
        return self.long_ms if now_s >= self._idle_from_s else self._short_ms

    def found(self, now_s: float) -> None:
        """Note that a fetch has returned records."""
        if not self._lazy or (self._found_s is not None and now_s - self._found_s < self._idle_after_s):
            self._idle_from_s = now_s + self._idle_after_s
        self._found_s = now_s
