"""Back-off of addresses that failed: growing pauses, and a bounded number of addresses. Pure."""

from typing import Final

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
MAX_KEPT: Final = 1024
"""Number of addresses that are remembered; the authors of queries can invent more."""


class AddressAvoidance:
    """Pauses of addresses that failed."""

    def __init__(self) -> None:
        self._pauses: dict[str, tuple[float, float]] = {}
        """End of the pause and its length in seconds, by address."""

    def __len__(self) -> int:
        return len(self._pauses)

    def failed(self, address: str, now_s: float, *, worked: bool = False) -> None:
        """Avoid an address for twice as long as the last time; for the first pause again, if it `worked` before."""
        _until, last_s = self._pauses.pop(address, (0.0, 0.0))
        pause_s = FIRST_PAUSE_S if worked or not last_s else min(2 * last_s, LONGEST_PAUSE_S)
        self._pauses[address] = now_s + pause_s, pause_s
        if len(self._pauses) > MAX_KEPT:
            del self._pauses[next(iter(self._pauses))]

    def covers(self, address: str, now_s: float) -> bool:
        """Return true if an address must not be tried now."""
        pause = self._pauses.get(address)
        return pause is not None and now_s < pause[0]
