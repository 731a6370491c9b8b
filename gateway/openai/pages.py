"""Pages of lists in OpenAI's form, and its times. Pure."""

from datetime import datetime
from typing import Final

from multidict import MultiMapping

from schemas.errors import InvalidRequest
from schemas.openai import MOST_LISTED

_LISTED: Final = 100
_PAGE: Final = ("limit", "after")


def page_of(query: MultiMapping[str], *others: str) -> tuple[int, str | None]:
    """Return the `limit` and the `after` of a query string; `others` are further parameters.

    Raises:
        InvalidRequest: a parameter is unknown, repeated or invalid.
    """
    for name in query:
        if name not in _PAGE and name not in others:
            raise InvalidRequest(f"$.{name[:80]}: there is no such parameter; there are {', '.join((*_PAGE, *others))}")
        if len(query.getall(name)) > 1 or not query[name].isprintable():
            raise InvalidRequest(f"$.{name}: the parameter is given twice, or has unprintable characters")
    text = query.get("limit", str(_LISTED))
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= MOST_LISTED):
        raise InvalidRequest(f"$.limit: it is a number, 1 to {MOST_LISTED}, not {text[:20]!r}")
    return int(text), query.get("after")


def epoch_s(at: datetime) -> int:
    """Return a time in whole seconds since the epoch."""
    return int(at.timestamp())
