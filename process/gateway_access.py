"""Access of a client to a gateway: its URL, its key, its certificates, and why it cannot be reached.

The client library and the command line share it. `ClientTls` names the authorities that the client trusts, and its own
certificate.
"""

import logging
import os
import re
import socket
import ssl
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from process.errors import is_host, unknown_host, why_not_connected
from process.sockets import is_loopback
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

KEY_ENV: Final = "INFAAS_KEY"
"""Environment variable with the API key or token for the gateway."""
CA_ENV: Final = "INFAAS_GATEWAY_CA"
CERTIFICATE_ENV: Final = "INFAAS_CLIENT_CERT"
CLIENT_KEY_ENV: Final = "INFAAS_CLIENT_KEY"


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
        key = self.key or os.environ.get(CLIENT_KEY_ENV) or None
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
    return f"{cause}; does it use TLS, and does it require a client certificate ({CERTIFICATE_ENV}, {CLIENT_KEY_ENV})?"


def is_url(text: str) -> bool:
    """Return true if the text has the form of a gateway's URL."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and parts.port != 0 and is_host(parts.hostname or "")
    except ValueError:  # invalid port or brackets
        return False


def checked_key(key: str) -> str:
    """Return a key that is valid in an HTTP header.

    Raises:
        OperatorError: the key contains characters that no key has.
    """
    key = key.strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise OperatorError("the key contains a space or a line break")  # never show the key
    return key


def without_user(url: str) -> str:
    """Return a URL without user and password, which a proxy in front of a gateway may require, for display."""
    return re.sub(r"//[^/?#]*@", "//", url, count=1)


def why_unreached(url: str, error: aiohttp.ClientError) -> str:
    """Return the reason why the gateway at `url` did not answer, with a hint on how to fix it."""
    shown = without_user(url)
    if isinstance(error, aiohttp.ClientSSLError):
        return f"no secure connection to {shown}: {why_unsafe(error)}"
    certified = f", and does it require a client certificate ({CERTIFICATE_ENV}, {CLIENT_KEY_ENV})?"
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
