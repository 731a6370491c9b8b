"""Queries to a gateway over HTTP, with the same bytes and headers as over Kafka; one connection per query in flight.

`ClientTls` names the authorities that the client trusts, and its own certificate.
"""

import asyncio
import logging
import os
import re
import socket
import ssl
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from infaas.client.transport import EncodedQuery
from process.errors import unknown_host, why_not_connected
from process.sockets import is_loopback, open_files_limit
from schemas import headers as h
from schemas.errors import DeadlineExceeded, ErrorCode, Internal, OperatorError, RefusalReason
from schemas.result import OK, Result, parse_result

log = logging.getLogger(__name__)

CA_ENV: Final = "INFAAS_GATEWAY_CA"
CERTIFICATE_ENV: Final = "INFAAS_CLIENT_CERT"
KEY_ENV: Final = "INFAAS_CLIENT_KEY"


class ClientTls(msgspec.Struct, frozen=True):
    """PEM files of a client of gateways; an absent value is taken from the environment."""

    ca: Path | str | None = None
    """Certificate authorities to trust; None: INFAAS_GATEWAY_CA, else the authorities of the operating system."""
    certificate: Path | str | None = None
    """Client certificate for a gateway that asks for one; None: INFAAS_CLIENT_CERT."""
    key: Path | str | None = None
    """Key of the client certificate, if it is in a separate file; None: INFAAS_CLIENT_KEY."""

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for connections to `https://`. Blocks for some milliseconds.

        Raises:
            OperatorError: a file is missing or invalid.
        """
        ca = self.ca or os.environ.get(CA_ENV) or None
        certificate = self.certificate or os.environ.get(CERTIFICATE_ENV) or None
        key = self.key or os.environ.get(KEY_ENV) or None
        if key is not None and certificate is None:
            raise OperatorError(f"the key {key} has no certificate: also set {CERTIFICATE_ENV}")
        try:
            context = ssl.create_default_context(cafile=ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if certificate is not None:
                context.load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            named = ", ".join(str(file) for file in (ca, certificate, key) if file is not None)
            raise OperatorError(f"cannot use the certificates in {named}: {error}") from error
        return context


def why_unsafe(error: OSError) -> str:
    """Return the reason why a TLS connection to a gateway failed, with a hint on how to fix it."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"{cause.verify_message}; set {CA_ENV} to the file of its authority"
    return f"{cause}; does it use TLS, and does it require a client certificate ({CERTIFICATE_ENV}, {KEY_ENV})?"


_CODES: Final = {
    400: ErrorCode.INVALID_REQUEST,
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.INVALID_REQUEST,  # an INFaaS gateway reports an unknown task itself
    413: ErrorCode.INVALID_REQUEST,
    422: ErrorCode.UNSATISFIABLE,
    429: ErrorCode.QUOTA_EXCEEDED,
    502: ErrorCode.OVERLOADED,
    503: ErrorCode.OVERLOADED,
    504: ErrorCode.DEADLINE_EXCEEDED,
}
"""Error codes by HTTP status, for answers of a proxy in front of the gateway."""


class HttpTransport:
    """Transport over HTTP. Queries beyond `max_in_flight` wait for a connection.

    The number of connections is also limited to half of the files that this process may open, to leave the rest to the
    program.
    """

    def __init__(self, url: str, key: str, max_in_flight: int, tls: ClientTls) -> None:
        self._own_headers = own_headers(url, key)
        self._tls = tls
        self._url = url.rstrip("/").removesuffix("/v2")
        self._most_connections = min(max_in_flight, open_files_limit(max_in_flight * 2) // 2)
        self._slots = asyncio.Semaphore(self._most_connections)
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._most_connections, ssl=self._tls.context() if self._url.startswith("https:") else True
            ),
            timeout=aiohttp.ClientTimeout(total=None),
            headers=self._own_headers,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def ask(self, query: EncodedQuery) -> Result:
        """Send a query and return its result; see `Transport.ask`."""
        assert self._http is not None, "used outside its context"
        headers = {h.ID: query.id, h.CONTENT_TYPE: query.message.content_type, **query.fields}
        if query.message.json_length is not None:
            headers[h.JSON_LENGTH] = str(query.message.json_length)
        url = f"{self._url}/v2/models/{quote(query.task, safe='')}/infer"
        async with self._slots:
            try:
                async with (
                    asyncio.timeout(query.timeout_s),
                    self._http.post(url, data=query.message.value, headers=headers) as response,
                ):
                    return _result(query.id, response.status, response.headers, await response.read())
            except TimeoutError:
                message = f"there was no result within {query.timeout_s:g} s"
                raise DeadlineExceeded(message, reason=RefusalReason.NO_RESULT) from None
            except aiohttp.ClientError as error:
                raise Internal(why_unreached(self._url, error)) from error


def without_user(url: str) -> str:
    """Return a URL without user and password, which a proxy in front of a gateway may require, for display."""
    return re.sub(r"//[^/?#]*@", "//", url, count=1)


def why_unreached(url: str, error: aiohttp.ClientError) -> str:
    """Return the reason why the gateway at `url` did not answer, with a hint on how to fix it."""
    shown = without_user(url)
    if isinstance(error, aiohttp.ClientSSLError):
        return f"no secure connection to {shown}: {why_unsafe(error)}"
    certified = f", and does it require a client certificate ({CERTIFICATE_ENV}, {KEY_ENV})?"
    return (
        f"cannot reach the gateway at {shown} ({_why(error)}); is it running, is this its "
        f"URL{certified if url.startswith('https:') else '?'}"
    )


def _why(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError) and not isinstance(error.os_error, socket.gaierror):
        return unknown_host(error.host)  # from a resolver with its own errors
    if isinstance(error, aiohttp.ClientConnectorError):
        return why_not_connected(error.host, error.port or 0, error.os_error)
    return str(error) or type(error).__name__


def _result(query_id: str, status: int, headers: Mapping[str, str], value: bytes) -> Result:
    fields = {name.lower(): text for name, text in headers.items()}
    fields.setdefault(h.ID, query_id)
    seconds = fields.get("retry-after", "")
    if seconds.isdecimal():  # the header may also be a date
        fields.setdefault(h.RETRY_AFTER_MS, f"{seconds}000")
    fields.setdefault(h.STATUS, OK if status == 200 else _CODES.get(status, ErrorCode.INTERNAL))
    return parse_result(fields, value)


def own_headers(url: str, key: str) -> dict[str, str]:
    """Return the headers that authenticate the client at `url`; log one warning if the key is sent unencrypted.

    Raises:
        OperatorError: the URL contains a user as well.
    """
    if not key:
        return {}
    if without_user(url) != url:
        raise OperatorError(f"the URL {without_user(url)} contains a user and a key is set: use only one")
    _warn_of_listeners(url)
    return {"Authorization": f"Bearer {key}"}


@cache
def _warn_of_listeners(url: str) -> None:
    to = urlsplit(url)
    host = to.hostname or ""
    if to.scheme == "http" and not is_loopback(host):
        log.warning("the key goes to %s unencrypted, and anyone on the network path can read it: use https", host)
