"""What a process cannot do its work without, and whether it is away: said once when it goes, and once when it is back.

Dozens of loops meet the same outage, each with words of its own. Who opens connections knows best, so it tells an
`Outage`; while that lasts, and a moment after, warnings that only say so again are not logged. Errors are, always.
"""

import logging
import time
from typing import Final

log = logging.getLogger(__name__)

_all: Final[list["Outage"]] = []
_BELIEVED_S: Final = 60.0
"""Seconds after a failure for which a place that nobody asked since counts as away."""
_SETTLING_S: Final = 5.0
"""Seconds after it is back, or we began, in which what does not work yet is no news."""


class Outage:
    """Whether something is away; one for the process.

    Args:
        what: its name for people, e.g. `Postgres`.
        errors: types of the errors that come of it.
        loggers: beginnings of the names of loggers whose warnings come of it.
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
        """Whether it is away, as far as anybody has tried."""
        if not self._failed_at:
            return False
        oldest = time.monotonic() - _BELIEVED_S
        self._failed_at = {place: at for place, at in self._failed_at.items() if at > oldest}
        return bool(self._failed_at)

    def failed(self, place: str = "", reason: str = "") -> None:
        """Note that it was asked at `place` in vain."""
        known = place in self._failed_at
        self._failed_at[place] = time.monotonic()
        if not known:
            why = f" ({reason})" if reason else ""
            log.error("%s does not answer%s%s; trying again until it does", self._what, _at(place), why)

    def answered(self, place: str = "") -> None:
        """Note that it has answered at `place`."""
        if self._failed_at and self._failed_at.pop(place, None) is not None:
            self._settled_at = time.monotonic() + _SETTLING_S
            log.warning("%s answers again%s", self._what, _at(place))

    def concerns(self, record: logging.LogRecord) -> bool:
        """Whether a line would say no more than that it is away, if it is."""
        if record.name == __name__:
            return False
        args = record.args if isinstance(record.args, tuple) else ()
        return record.name.startswith(self._loggers) or any(isinstance(arg, self._errors) for arg in args)

    @property
    def explains(self) -> bool:
        """Whether lines that concern it are no news now."""
        return self.lasts or time.monotonic() < self._settled_at

    def causes(self, error: BaseException) -> bool:
        """Whether an error comes of this."""
        return self.lasts and isinstance(error, self._errors)


def outages() -> list[Outage]:
    """All that were made."""
    return _all


def quiet_outages(quiet: bool = True) -> None:
    """Say nothing of outages, or do so again."""
    log.disabled = quiet


def _at(place: str) -> str:
    return f" at {place}" if place else ""
