"""How long the broker may hold a fetch: short while records come, long once none has come for a while.

Most readers of a system are idle, and each fetch that ends empty costs both sides. Apache Kafka answers a held fetch as
soon as there is a record, so a longer wait makes no answer slower; the embedded broker does not, so there the first
record after an idle while comes late by up to the longer wait.

Where the broker wakes nobody, and the settings do not say how long a fetch may be held, it is not held for long, by a
reader that has found that out (`wakes`): `infaas up` says so to its services, a client in another program asks.

Pure: the time comes in.
"""

from typing import Final

from broker.settings import KafkaSettings

IDLE_FACTOR: Final = 20
"""The longer wait over the shorter one, which is 500 ms on Apache Kafka and 10 ms on the embedded broker."""
LONGEST_MS: Final = 5_000
UNWOKEN_MS: Final = 10
"""The shorter wait where the broker does not wake a held fetch: so much later comes an answer, at most."""
_IDLE_AFTER_S: Final = 2.0
_LAZY_AFTER_S: Final = 0.25


class FetchPace:
    """Decides how long each fetch of one reader may wait."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        factor: int = IDLE_FACTOR,
        longest_ms: int = LONGEST_MS,
        lazy: bool = False,
        wakes: bool = True,
    ) -> None:
        """Take the waits from the settings.

        Args:
            settings: how long a fetch may be held.
            factor: the longer wait over the shorter one, at most.
            longest_ms: the longer wait, at most.
            lazy: records that come now and then are no reason to hurry, only those that come one upon the other.
            wakes: whether the broker answers a held fetch as soon as there is a record.
        """
        said = "fetch_max_wait_ms" in settings.model_fields_set
        self._short_ms = settings.fetch_max_wait_ms if wakes or said else UNWOKEN_MS
        longest_ms = min(factor * self._short_ms, longest_ms, settings.request_timeout_ms // 2)
        self.long_ms = max(self._short_ms, longest_ms)
        """How long a fetch is held while nothing comes."""
        self._idle_after_s = _LAZY_AFTER_S if lazy else _IDLE_AFTER_S
        self._lazy = lazy
        self._found_s: float | None = None
        self._idle_from_s: float | None = None

    def wait_ms(self, now_s: float) -> int:
        """How long a fetch that is sent now may be held."""
        if self._idle_from_s is None:
            self._idle_from_s = now_s + self._idle_after_s
        return self.long_ms if now_s >= self._idle_from_s else self._short_ms

    def found(self, now_s: float) -> None:
        """Note that a fetch has brought records."""
        if not self._lazy or (self._found_s is not None and now_s - self._found_s < self._idle_after_s):
            self._idle_from_s = now_s + self._idle_after_s
        self._found_s = now_s
