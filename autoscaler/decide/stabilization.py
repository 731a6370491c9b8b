"""Delays scaling down until fewer have been wanted for a while, so that a load that swings moves nothing.

More is wanted at once. Fewer only after a delay in proportion to what it takes to have them back, INFaaS's T_v; what is
taken away then is what was never wanted in all that time. The clock is `ClusterSnapshot.observed_s`: a new leader knows
of no surplus and waits anew.
"""

from collections.abc import Mapping

from autoscaler.decide.snapshot import ScaleDownTimer


class ScaleDownStabilizer:
    """Stabilizer that remembers for how long there has been more than is wanted, by name."""

    def __init__(self, remembered: Mapping[str, ScaleDownTimer], now_s: float) -> None:
        self._before = remembered
        self._now_s = now_s
        self.surplus: dict[str, ScaleDownTimer] = {}
        """Timers to remember for the next decision."""

    def apply(self, name: str, current: int, wanted: int, delay_s: float) -> int:
        """Number that there should be, given how many there are."""
        if wanted >= current:
            return wanted
        before = self._before.get(name, ScaleDownTimer(since_s=self._now_s, maximum=wanted))
        maximum = max(before.maximum, wanted)
        if self._now_s - before.since_s >= delay_s and maximum < current:
            return maximum
        since_s = before.since_s if maximum < current else self._now_s
        self.surplus[name] = ScaleDownTimer(since_s=since_s, maximum=maximum if maximum < current else wanted)
        return current
