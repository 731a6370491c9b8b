"""Addresses that failed, and until when they are not tried again: ever longer, and bounded in number. Pure."""

from typing import Final

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
MAX_KEPT: Final = 1024
"""Number of addresses that are remembered; whoever writes queries can invent more."""


class AddressAvoidance:
    """Pauses of addresses that failed."""

    def __init__(self) -> None:
        self._pauses: dict[str, tuple[float, float]] = {}
        """By address: until when, and the seconds of the pause."""

    def __len__(self) -> int:
        return len(self._pauses)

    def failed(self, address: str, now_s: float, *, worked: bool = False) -> None:
        """Avoid an address for twice as long as the last time; anew for the first pause if it `worked` before."""
        _until, last_s = self._pauses.pop(address, (0.0, 0.0))
        pause_s = FIRST_PAUSE_S if worked or not last_s else min(2 * last_s, LONGEST_PAUSE_S)
        self._pauses[address] = now_s + pause_s, pause_s
        if len(self._pauses) > MAX_KEPT:
            del self._pauses[next(iter(self._pauses))]

    def covers(self, address: str, now_s: float) -> bool:
        """Whether an address is not to be tried now."""
        pause = self._pauses.get(address)
        return pause is not None and now_s < pause[0]
