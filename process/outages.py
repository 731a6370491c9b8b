"""Logs of failures: outages of dependencies, and operations that are retried; each is logged when it begins and ends.

Many loops fail during one outage of Kafka or Postgres, each with its own message. The code that opens connections has
the most exact information, so it reports to an `Outage`. While the outage lasts and shortly after, warnings that it
explains are not logged. Errors are always logged.
"""

import logging
import time
from typing import Final

log = logging.getLogger(__name__)
_failures = logging.getLogger(f"{__name__}.failures")
"""Logger of its own: `quiet_outages` does not suppress it."""
_all: Final[list["Outage"]] = []
_BELIEVED_S: Final = 60.0
"""Seconds after its last failure for which a place counts as unavailable."""
_SETTLING_S: Final = 5.0
"""Seconds after the start of the process, or after recovery, in which warnings are still suppressed."""


class Outage:
    """State of one dependency of this process; create one instance per process.

    Args:
        what: name for people, e.g. `Postgres`.
        errors: types of the errors that an outage causes.
        loggers: prefixes of the names of loggers whose warnings an outage causes.
    """

    def __init__(self, what: str, errors: tuple[type[BaseException], ...], loggers: tuple[str, ...] = ()) -> None:
        self._what = what
        self._errors = errors
        self._loggers = loggers
        self._failed_at: dict[str, float] = {}
        self._settled_at = time.monotonic() + _SETTLING_S
        _all.append(self)

    @property
    def lasts(self) -> bool:
        """True if attempts at some place failed within the last 60 s and none succeeded since."""
        if not self._failed_at:
            return False
        oldest = time.monotonic() - _BELIEVED_S
        self._failed_at = {place: at for place, at in self._failed_at.items() if at > oldest}
        return bool(self._failed_at)

    def failed(self, place: str = "", reason: str = "") -> None:
        """Record a failed attempt at `place`; log the first one."""
        known = place in self._failed_at
        self._failed_at[place] = time.monotonic()
        if not known:
            why = f" ({reason})" if reason else ""
            log.error("%s does not answer%s%s; trying again until it does", self._what, _at(place), why)

    def answered(self, place: str = "") -> None:
        """Record a successful attempt at `place`; log it if the place was unavailable."""
        if self._failed_at and self._failed_at.pop(place, None) is not None:
            self._settled_at = time.monotonic() + _SETTLING_S
            log.warning("%s answers again%s", self._what, _at(place))

    def concerns(self, record: logging.LogRecord) -> bool:
        """Return true if an outage of this dependency would cause this log record."""
        if record.name == __name__:
            return False
        args = record.args if isinstance(record.args, tuple) else ()
        return record.name.startswith(self._loggers) or any(isinstance(arg, self._errors) for arg in args)

    @property
    def explains(self) -> bool:
        """True if the records that concern this dependency should not be logged now."""
        return self.lasts or time.monotonic() < self._settled_at

    def causes(self, error: BaseException) -> bool:
        """Return true if this outage lasts and causes such errors."""
        return self.lasts and isinstance(error, self._errors)


def outages() -> list[Outage]:
    """Return all outages of this process."""
    return _all


def quiet_outages(quiet: bool = True) -> None:
    """Suppress the messages about outages, or log them again."""
    log.disabled = quiet


def _at(place: str) -> str:
    return f" at {place}" if place else ""


class FailureLog:
    """Log of one operation that is retried; `meanwhile` describes the effect while it fails.

    Failures are logged once they have lasted for `tolerated_s`, so that those of a normal start are not.
    """

    def __init__(self, what: str, meanwhile: str, tolerated_s: float = 0.0) -> None:
        self._what = what
        self._meanwhile = meanwhile
        self._tolerated_s = tolerated_s
        self._failed_at: float | None = None
        self._said: bool | None = None
        """True if the present failure was logged, false if an outage explained it; None: not decided."""

    def failed(self, error: BaseException) -> None:
        """Log a failure unless one was logged since the last success, or an outage explains it."""
        now = time.monotonic()
        if self._failed_at is None:
            self._failed_at = now
        if self._said is None and now - self._failed_at >= self._tolerated_s:
            self._said = not any(outage.causes(error) for outage in outages())
            if self._said:
                reason = str(error) or type(error).__name__
                _failures.warning("%s: %s; %s until it works again", self._what, reason, self._meanwhile)

    def recovered(self) -> None:
        """Log a success if the failure before it was logged."""
        if self._said:
            _failures.info("%s: works again", self._what)
        self._failed_at = self._said = None
