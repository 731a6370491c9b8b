"""Times as people write them: `2h` ago, or a date; and how long something may take, `2h30m`."""

import re
from datetime import datetime
from typing import Final

from schemas.errors import OperatorError

_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_LASTING: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def parse_moment(text: str, now_s: float) -> float:
    """Read a time, seconds since the epoch; a date without a zone is of this machine's.

    Raises:
        OperatorError: it is neither a time ago nor a date.
    """
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return now_s - float(ago[1]) * _SECONDS[ago[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError:
        raise OperatorError(f"{text!r} is no time: write 90s, 30m, 2h or 3d ago, or 2026-01-31T12:00") from None


def parse_duration(text: str) -> float:
    """Read how long something may take, in seconds.

    Raises:
        OperatorError: it is no duration.
    """
    found = _LASTING.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise OperatorError(f"{text!r} is no duration: write 90s, 15m or 2h30m")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds
