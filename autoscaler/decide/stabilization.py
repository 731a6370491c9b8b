"""Delays scale-down until fewer have been wanted for a while, so that oscillating load causes no changes.

Increases apply at once. Decreases apply after a delay in proportion to the time needed to undo them (INFaaS's T_v), and
only down to the highest number wanted during the delay. The clock is `ClusterSnapshot.observed_s`: a new leader knows
no surplus, so its delays start again.
"""

from collections.abc import Mapping

from autoscaler.decide.snapshot import ScaleDownTimer


class ScaleDownStabilizer:
    """Stabilizer that remembers by name since when there has been a surplus."""

    def __init__(self, remembered: Mapping[str, ScaleDownTimer], now_s: float) -> None:
        self._before = remembered
        self._now_s = now_s
        self.surplus: dict[str, ScaleDownTimer] = {}
        """Timers to remember for the next decision."""

    def apply(self, name: str, current: int, wanted: int, delay_s: float) -> int:
        """Return the number to keep: `wanted`, or more while the delay of a decrease runs."""
        if wanted >= current:
            return wanted
        before = self._before.get(name, ScaleDownTimer(since_s=self._now_s, maximum=wanted))
        maximum = max(before.maximum, wanted)
        if self._now_s - before.since_s >= delay_s and maximum < current:
            # The timer runs on until the decrease has happened: not every worker can be emptied at once.
            self.surplus[name] = ScaleDownTimer(since_s=before.since_s, maximum=maximum)
            return maximum
        since_s = before.since_s if maximum < current else self._now_s
        self.surplus[name] = ScaleDownTimer(since_s=since_s, maximum=maximum if maximum < current else wanted)
        return current
