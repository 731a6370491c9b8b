"""Log of repeated attempts: one line when they begin to fail, one line when they succeed again.

If an outage causes the failure, `process.outages` logs it once for the whole process instead.
"""

import logging

from process.outages import outages

log = logging.getLogger(__name__)


class FailureLog:
    """Log of one operation that is retried; `meanwhile` describes the effect while it fails."""

    def __init__(self, what: str, meanwhile: str) -> None:
        self._what = what
        self._meanwhile = meanwhile
        self._failing = False
        self._said = False

    def failed(self, error: BaseException) -> None:
        """Log a failure if the attempt before it succeeded and no outage explains it."""
        if not self._failing:
            self._said = not any(outage.causes(error) for outage in outages())
            if self._said:
                reason = str(error) or type(error).__name__
                log.warning("%s: %s; %s until it works again", self._what, reason, self._meanwhile)
        self._failing = True

    def recovered(self) -> None:
        """Log a success if the attempt before it failed and the failure was logged."""
        if self._failing and self._said:
            log.info("%s: works again", self._what)
        self._failing = False
