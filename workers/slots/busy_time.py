"""Time in which instances that compute outside the slots are busy, in slot seconds. Pure."""

from collections.abc import Hashable


class BusyTime:
    """Sum of the times of all instances, each multiplied by the slots that it would take."""

    def __init__(self) -> None:
        self._ended_s = 0.0
        self._busy: dict[Hashable, tuple[float, int]] = {}
        """Beginning and slots of busy instances, by instance."""

    def begin(self, instance: Hashable, slots: int, now_s: float) -> None:
        """Note that an instance begins to compute; no-op if it does so already."""
        self._busy.setdefault(instance, (now_s, slots))

    def end(self, instance: Hashable, now_s: float) -> None:
        """Note that an instance computes nothing any more; no-op if it computed nothing."""
        if instance in self._busy:
            began_s, slots = self._busy.pop(instance)
            self._ended_s += slots * (now_s - began_s)

    def seconds(self, now_s: float) -> float:
        """Return the slot seconds so far."""
        return self._ended_s + sum(slots * (now_s - began_s) for began_s, slots in self._busy.values())
