"""Documents of a token issuer over HTTP: a maximum size, no redirects, and only safe URLs from its discovery document.

The caller limits the time.
"""

from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import msgspec
from yarl import URL

MOST_BYTES: Final = 256 * 1024
_DISCOVERY: Final = "/.well-known/openid-configuration"
_OWN_HOSTS: Final = ("localhost", "127.0.0.1", "::1")


def check_issuer_url(url: str) -> None:
    """Check that a URL is a safe source of keys: without encryption, an attacker on the way could substitute keys.

    Raises:
        ValueError: the URL is neither HTTPS nor on this machine.
    """
    parsed = URL(url)
    safe = parsed.scheme == "https" or (parsed.scheme == "http" and parsed.host in _OWN_HOSTS)
    if not safe or not parsed.host:
        raise ValueError(f"{url!r} must be https://..., or a URL of this machine")


async def discover(http: aiohttp.ClientSession, issuer: str, *names: str) -> dict[str, str]:
    """Return URLs in the discovery document of an issuer, by their names in it.

    Raises:
        ValueError: the document is not valid, or a URL is missing or not safe.
        ClientError: the issuer cannot be reached.
    """
    document, found = read_object(await fetch(http, issuer.rstrip("/") + _DISCOVERY)), dict[str, str]()
    for name in names:
        url = document.get(name)
        if not isinstance(url, str):
            raise ValueError(f"its discovery document names no {name}")
        check_issuer_url(url)
        found[name] = url
    return found


async def fetch(http: aiohttp.ClientSession, url: str) -> bytes:
    """Return the document at a URL.

    Raises:
        ValueError: there is none, or it is too large.
        ClientError: the issuer cannot be reached.
    """
    async with http.get(url, allow_redirects=False) as answer:
        if answer.status != 200:
            raise ValueError(f"{url} answers {answer.status}")
        return await _read(answer)


async def send_form(
    http: aiohttp.ClientSession, url: str, fields: Mapping[str, str], headers: Mapping[str, str]
) -> dict[str, Any]:
    """Send a form, and return the object that answers it: also an error is one.

    Raises:
        ValueError: the answer is not an object, or it is too large.
        ClientError: the issuer cannot be reached.
    """
    async with http.post(url, data=fields, headers=headers, allow_redirects=False) as answer:
        return read_object(await _read(answer))


def read_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: the body is not one.
    """
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"it is not a JSON object: {error}") from None


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    body = b""  # a read returns the bytes that have arrived
    while len(body) <= MOST_BYTES and (more := await answer.content.read(MOST_BYTES + 1 - len(body))):
        body += more
    if len(body) > MOST_BYTES:
        raise ValueError(f"{answer.url} answers more than {MOST_BYTES} bytes")
    return body
