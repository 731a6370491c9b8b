"""The tenant that a request is asked as: by it everything is decided that depends on who asks."""

from collections.abc import Mapping

from schemas import headers as h


def tenant_asking(headers: Mapping[str, str]) -> str | None:
    """The tenant that a request says it is of, by a case-insensitive mapping of its headers."""
    return headers.get(h.TENANT) or None
