"""TLS of listeners: certificate, key and client authorities, reloaded when their files change.

Rules:
* Files are served only after they were read completely and found to match. A new pair that does not match is refused
  with a log message, and the old pair stays in use. At the start a mismatch is an error.
* Files are polled every few seconds, and at once on SIGHUP. Polling is necessary: mounted secrets change through a link
  above them, and network file systems report no changes.
* A new pair applies to new connections; open connections keep theirs.
* The minimum version is TLS 1.2. With client certificates it is TLS 1.3 without tickets, so that no session is resumed:
  a client that has lost its trust is refused at its next connection. TLS 1.2 would resume sessions from a cache in the
  server that we cannot clear.
"""

import asyncio
import logging
import os
import signal
import ssl
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from process.errors import reason_of
from process.pauses import wait_within
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

HTTP_1, HTTP_2 = "http/1.1", "h2"
"""Protocols of a listener, as ALPN names them."""
HANDSHAKE_S: Final = 10.0
"""Maximum seconds for a handshake; a silent client is disconnected."""
_LOOK_S: Final = 5.0


class TlsFiles(msgspec.Struct, frozen=True):
    """PEM files of a TLS listener."""

    certificate: Path
    """The server's certificate and its intermediate certificates."""
    key: Path
    client_ca: Path | None = None
    """Authorities of accepted client certificates; None: clients present no certificate."""

    @classmethod
    def given(cls, certificate: Path | None, key: Path | None, client_ca: Path | None) -> Self | None:
        """Return the files of three flags; None if no flag is set.

        Raises:
            OperatorError: a flag is set without another flag that it needs.
        """
        if certificate is not None and key is not None:
            return cls(certificate, key, client_ca)
        if certificate is not None or key is not None:
            raise OperatorError("--tls-cert and --tls-key belong together: set both or neither")
        if client_ca is not None:
            raise OperatorError("--tls-client-ca needs --tls-cert and --tls-key: client certificates need TLS")
        return None


class TlsBytes(msgspec.Struct, frozen=True):
    """Contents of the PEM files of a listener when they were read."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None

    def __repr__(self) -> str:
        """Return the type only: a key must not appear in a log."""
        return "TlsBytes(...)"


class ListenerTls:
    """TLS of the listeners of this process; reloads its files while `following` is open.

    Raises:
        OperatorError: a file cannot be read, or the files do not match.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self.current = _read(files)
        """Contents in use; replaced as a whole."""
        self._fresh = _contexts(files, self.current)
        """Contexts for the next handshakes, by protocol."""
        self._refused = ""

    @asynccontextmanager
    async def following(self, look_s: float = _LOOK_S) -> AsyncGenerator[None]:
        """Reload the files every `look_s` seconds and on SIGHUP while the context is open."""
        asked, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, asked.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                following = tasks.create_task(self._follow(asked, look_s), name="certificates")
                yield
                following.cancel()
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    def server_options(self, timeout_s: float, protocol: str = HTTP_1) -> dict[str, Any]:
        """Return TLS options for asyncio's `create_server`, valid as long as it listens.

        Handshake and shutdown may each take `timeout_s`, at most `HANDSHAKE_S`. Each handshake uses the contents that
        are current then.
        """
        limit_s = min(timeout_s, HANDSHAKE_S)
        context = _contexts(self._files, self.current)[protocol]

        def use_fresh(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self._fresh[protocol]  # called at every handshake, also without a server name

        context.sni_callback = use_fresh
        return {"ssl": context, "ssl_handshake_timeout": limit_s, "ssl_shutdown_timeout": limit_s}

    async def _follow(self, asked: asyncio.Event, look_s: float) -> None:
        while True:
            await wait_within(look_s, asked)
            said, _ = asked.is_set(), asked.clear()
            await self.look(aloud=said)

    async def look(self, *, aloud: bool = False) -> None:
        """Read the files and use changed contents; log an error once, or each time if `aloud`."""
        try:
            found = await asyncio.to_thread(_read, self._files)
            if found == self.current:
                self._refused = ""
                return
            fresh = await asyncio.to_thread(_contexts, self._files, found)
        except OperatorError as error:
            if aloud or str(error) != self._refused:
                log.error("keeping the present certificate: %s", error)
            self._refused = str(error)
            return
        self._refused, self._fresh, self.current = "", fresh, found
        log.info("new connections use the new certificate in %s", self._files.certificate)


@asynccontextmanager
async def following_certificates(files: TlsFiles | None) -> AsyncGenerator[ListenerTls | None]:
    """Load the files, if there are any, and reload them while the context is open.

    Raises:
        OperatorError: the files cannot be read, or do not match.
    """
    if files is None:
        yield None
        return
    tls = ListenerTls(files)
    async with tls.following():
        yield tls


def _read(files: TlsFiles) -> TlsBytes:
    try:
        client_ca = None if files.client_ca is None else files.client_ca.read_bytes()
        return TlsBytes(files.certificate.read_bytes(), files.key.read_bytes(), client_ca)
    except OSError as error:
        raise OperatorError(f"cannot read {error.filename}: {error.strerror}") from error


def _contexts(files: TlsFiles, pem: TlsBytes) -> dict[str, ssl.SSLContext]:
    return {protocol: _context(files, pem, protocol) for protocol in (HTTP_1, HTTP_2)}


def _context(files: TlsFiles, pem: TlsBytes, protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([protocol])
    try:
        with _memory_file(pem.certificate) as certificate, _memory_file(pem.key) as key:
            context.load_cert_chain(certificate, key, password=lambda: _refuse_password(files.key))
    except ssl.SSLError as error:
        raise OperatorError(
            f"{files.certificate} and {files.key} are not a PEM certificate and its key ({error.reason or error})"
        ) from error
    except OSError as error:  # of the files in memory: too many are open
        raise OperatorError(f"cannot use {files.certificate} and {files.key}: {reason_of(error)}") from error
    if pem.client_ca is not None:
        _trust(context, pem.client_ca, files.client_ca)
    return context


def _trust(context: ssl.SSLContext, client_ca: bytes, file: Path | None) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    try:
        context.load_verify_locations(cadata=client_ca.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError) as error:
        raise OperatorError(f"{file} has no PEM certificates ({error})") from error


@contextmanager
def _memory_file(content: bytes) -> Generator[str]:
    """Yield a path with this content: OpenSSL reads pairs from files only, and the original file may change."""
    descriptor = os.memfd_create("pem")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _refuse_password(key: Path) -> bytes:
    raise OperatorError(f"{key} is encrypted; store it unencrypted, readable by its user only")


def certificate_names(shown: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the names that identify a client certificate: its URIs, else its DNS names, else its common name.

    `shown` is the certificate as decoded by `ssl`; without one there are no names.
    """
    if not shown:
        return ()
    alternative: list[tuple[str, str]] = list(shown.get("subjectAltName", ()))
    uris, dns = ([name for kind, name in alternative if kind == wanted] for wanted in ("URI", "DNS"))
    common = [value for part in shown.get("subject", ()) for kind, value in part if kind == "commonName"]
    return tuple(uris or dns or common)
