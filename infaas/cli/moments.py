"""Parsing of times such as `2h` (ago or from now) or a date, and of durations such as `2h30m`."""

import re
import time
from datetime import UTC, datetime
from typing import Final

from schemas.errors import OperatorError

_DISTANCE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_LASTING: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def parse_moment(text: str, now_s: float, *, ahead: bool = False) -> float:
    """Return a time in seconds since the epoch, from a date or a distance before `now_s` (after it with `ahead`).

    A date without a time zone is in the local one.

    Raises:
        OperatorError: the text is neither a distance nor a date.
    """
    distance = _DISTANCE.fullmatch(text.strip())
    if distance is not None:
        seconds = float(distance[1]) * _SECONDS[distance[2]]
        return now_s + seconds if ahead else now_s - seconds
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError:
        when = "from now on" if ahead else "ago"
        raise OperatorError(f"{text!r} is not a time: write 90s, 30m, 2h or 3d {when}, or 2026-01-31T12:00") from None


def past_moment(text: str | None) -> datetime | None:
    """Parse a flag with a past time or a date; None if the flag was not given.

    Raises:
        OperatorError: the text is not a time.
    """
    return None if text is None else datetime.fromtimestamp(parse_moment(text, time.time()), UTC)


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
