"""Logs once that something fails, and once that it works again: what is tried each second would fill the log.

Where an outage is the reason, that is said once for the whole process (`process.outages`).
"""

import logging

from process.outages import outages

log = logging.getLogger(__name__)


class FailureLog:
    """Log of one thing that is tried again and again; `meanwhile` says what happens while it fails."""

    def __init__(self, what: str, meanwhile: str) -> None:
        self._what = what
        self._meanwhile = meanwhile
        self._failing = False
        self._said = False

    def failed(self, error: BaseException) -> None:
        """Log a failure, if the try before it succeeded."""
        if not self._failing:
            self._said = not any(outage.causes(error) for outage in outages())
            if self._said:
                reason = str(error) or type(error).__name__
                log.warning("%s: %s; %s until it works again", self._what, reason, self._meanwhile)
        self._failing = True

    def recovered(self) -> None:
        """Log a success, if the try before it failed."""
        if self._failing and self._said:
            log.info("%s: works again", self._what)
        self._failing = False
