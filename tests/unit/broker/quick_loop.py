"""An event loop whose clock moves where it would wait."""

import asyncio
import selectors
from typing import Any


class _NoWaiting(selectors.DefaultSelector):
    """A selector that moves a clock where it would wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class QuickLoop(asyncio.SelectorEventLoop):
    """An event loop on which hours pass at once."""

    def __init__(self) -> None:
        self._clock = _NoWaiting()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def pass_time(self, seconds: float) -> None:
        """Run all that is due within so many seconds of the loop's own clock."""
        self.call_later(seconds, self.stop)
        self.run_forever()
