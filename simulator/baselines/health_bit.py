"""Health bit of INFaaS's prototype: one bit for overload and interference, with hysteresis.

Source: `qpsMonitor` in `query_executor.cc` of github.com/stanford-mast/INFaaS. The prototype averages the latencies of
the queries that ended in the last second; here the average follows from the numbers of queries by Little's law.
"""

from simulator.baselines.replica import Replica


class HealthBit:
    """State of one replica; updated each second."""

    __slots__ = ("_mean_s", "_queued", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        """True if it is overloaded or interfered."""
        self._queued = 0
        self._mean_s = 0.0

    def update(self, replica: Replica) -> None:
        """Set or clear the bit by the last second."""
        profile, queued, arrived = replica.profile, replica.queued, replica.queries_per_s
        ended = self._queued + arrived - queued
        if ended > 0:
            self._mean_s = (self._queued + queued) / 2 / ended
        else:
            self._mean_s /= 15.0 if profile.is_cpu else 1.5
        self._queued = queued
        size = max(int(replica.inputs_per_s / arrived), 1) if arrived else 1
        batch_s = profile.latency.batch_s(min(size, profile.max_batch))
        high, least_rate, most_queued, low = thresholds(profile.is_cpu, profile.parallel, batch_s)
        per_slot_s, outstanding = arrived / profile.parallel, most_queued * profile.parallel / batch_s
        if (self._mean_s > high * batch_s and per_slot_s > least_rate / batch_s) or queued > outstanding:
            self.is_set = True
        elif queued < outstanding and self._mean_s < low * batch_s:
            self.is_set = False


def thresholds(is_cpu: bool, replicas: int, batch_s: float) -> tuple[float, float, float, float]:
    """Return the thresholds of latency, rate, queue and recovery, relative to those of the profile."""
    if not is_cpu:
        return (min(5.0, 0.015 / batch_s) if batch_s < 0.01 else 1.5), 0.3, 0.8, 1.25
    return (2.5, 0.5, 0.8, 1.5) if replicas > 1 else (4.0, 1.0, 1.1, 1.5)
