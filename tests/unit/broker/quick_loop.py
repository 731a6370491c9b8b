"""Event loop on which time passes without waiting."""

import asyncio
import selectors
from typing import Any


class _NoWaiting(selectors.DefaultSelector):
    """Selector that advances a clock instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class QuickLoop(asyncio.SelectorEventLoop):
    """Event loop whose clock advances instead of waiting."""

    def __init__(self) -> None:
        self._clock = _NoWaiting()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def pass_time(self, seconds: float) -> None:
        """Run all callbacks that are due within `seconds` of the loop's clock."""
        self.call_later(seconds, self.stop)
        self.run_forever()
