"""Parsing of times such as `2h` (ago or from now) or a date, and of durations such as `2h30m`."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.errors import OperatorError

_DISTANCE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_LASTING: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def parse_moment(text: str, *, ahead: bool = False) -> datetime:
    """Return a time, from a date or a distance before the present (after it with `ahead`).

    A date without a time zone is in the local one.

    Raises:
        OperatorError: the text is neither a distance nor a date, or the time is out of range.
    """
    distance = _DISTANCE.fullmatch(text.strip())
    try:
        if distance is None:
            return datetime.fromisoformat(text.strip()).astimezone(UTC)
        passed = timedelta(seconds=float(distance[1]) * _SECONDS[distance[2]])
        return datetime.now(UTC) + (passed if ahead else -passed)
    except (ValueError, OverflowError):
        when = "from now on" if ahead else "ago"
        raise OperatorError(f"{text!r} is not a time: write 90s, 30m, 2h or 3d {when}, or 2026-01-31T12:00") from None


def parse_duration(text: str) -> float:
    """Return a duration in seconds.

    Raises:
        OperatorError: the text is not a duration.
    """
    found = _LASTING.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise OperatorError(f"{text!r} is not a duration: write 90s, 15m or 2h30m")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds
