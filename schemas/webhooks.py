"""Rules for the URLs of job webhooks. The component that delivers also checks the resolved addresses.

A pattern is a host, or `*.` and a domain for all hosts below it; either may have a port.
"""

from collections.abc import Collection
from typing import Final

from yarl import URL

from schemas.errors import Forbidden, InvalidRequest

_MAX_URL: Final = 2000
_PORTS: Final = {"https": 443, "http": 80}


def parse_webhook(url: str, hosts: Collection[str], *, plain_http: bool) -> URL:
    """Parse the URL of a webhook, and check that calling it is allowed.

    Args:
        url: the URL from the client.
        hosts: patterns of allowed hosts.
        plain_http: true to allow HTTP without encryption.

    Raises:
        InvalidRequest: it is not a valid URL for a webhook.
        Forbidden: its host matches none of `hosts`.
    """
    try:
        parsed = URL(url)
        host, port = parsed.host, parsed.port
    except ValueError:
        host = None
        parsed, port = URL(), None
    if len(url) > _MAX_URL or host is None or parsed.scheme not in _PORTS or parsed.user or parsed.password:
        raise InvalidRequest("a webhook must be a URL, https://host/path, without a user or a password")
    if parsed.scheme == "http" and not plain_http:
        raise InvalidRequest("a webhook must be https: this system sends nothing over HTTP that is not encrypted")
    if not any(_matches(host.lower(), port, _PORTS[parsed.scheme], pattern.lower()) for pattern in hosts):
        raise Forbidden(f"webhooks may not go to {host[:100]}:{port}; whoever runs this can allow it")
    return parsed.with_fragment(None)


def _matches(host: str, port: int | None, usual: int, pattern: str) -> bool:
    name, colon, number = pattern.rpartition(":")
    name, wanted = (name, number) if colon and number.isdecimal() else (pattern, str(usual))
    if str(port) != wanted:
        return False
    return host.endswith(name[1:]) and len(host) > len(name) - 1 if name.startswith("*.") else host == name.strip("[]")
