"""Tests of TLS listeners whose files change: valid pairs are served, invalid ones refused, connections kept."""

import asyncio
import logging
import os
import signal
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from process.tls import ListenerTls, TlsFiles
from schemas.defaults import LOOPBACK
from schemas.errors import OperatorError
from tests.certificates import authority_file, issue, listener_files
from tests.waiting import until

NEVER_S = 3600.0


@asynccontextmanager
async def echoing(tls: ListenerTls, timeout_s: float = 10.0) -> AsyncGenerator[int]:
    """Run an echo server; yields its port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, LOOPBACK, 0, **tls.server_options(timeout_s))
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()  # without waiting for connections, which a failed test leaves open


class Talk:
    """Client connection, and the serial number of the server's certificate."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.serial: str = writer.get_extra_info("peercert")["serialNumber"]

    async def says(self, line: bytes) -> bytes:
        self._writer.write(line)
        async with asyncio.timeout(30):
            return await self._reader.readline()

    def end(self) -> None:
        self._writer.transport.abort()


async def talk(port: int, context: ssl.SSLContext) -> Talk:
    return Talk(*await asyncio.open_connection(LOOPBACK, port, ssl=context))  # an IP address, so no server name is sent


def trusting(*authorities: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in authorities:
        authority.configure_trust(context)
    return context


async def test_tls_serves_new_pair_and_keeps_connections(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    tls = ListenerTls(listener_files(tmp_path, old))
    async with tls.following(NEVER_S), echoing(tls) as port:
        first = await talk(port, trusting(old))
        issue(new, tmp_path)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: tls.current.certificate == (tmp_path / "cert.pem").read_bytes())
        second = await talk(port, trusting(new))
        assert second.serial != first.serial
        assert await first.says(b"still here\n") == b"still here\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            await talk(port, trusting(old))
        for connection in (first, second):
            connection.end()


async def test_tls_follows_files_without_signal(tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ListenerTls(listener_files(tmp_path, authority))
    before = tls.current
    async with tls.following(0.02):
        issue(authority, tmp_path)
        await until(lambda: tls.current != before)


async def test_tls_keeps_old_pair_and_logs_bad_pair_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = trustme.CA()
    tls = ListenerTls(listener_files(tmp_path, authority))
    key = tmp_path / "key.pem"
    async with echoing(tls) as port:
        first = await talk(port, trusting(authority))
        good = key.read_bytes()
        for bad in (authority.issue_cert("other").private_key_pem.bytes(), b"no key", good[: len(good) // 2]):
            key.write_bytes(bad)
            caplog.clear()
            await tls.look()
            await tls.look()
            assert [record.levelno for record in caplog.records] == [logging.ERROR]
            assert "keeping the present certificate" in caplog.text
            assert "PRIVATE" not in caplog.text
            key.write_bytes(good)
            await tls.look()
        key.unlink()
        await tls.look()
        assert "cannot read" in caplog.text
        second = await talk(port, trusting(authority))
        assert second.serial == first.serial
        key.write_bytes(good)
        issue(authority, tmp_path)
        await tls.look()
        third = await talk(port, trusting(authority))
        assert third.serial != first.serial
        for connection in (first, second, third):
            connection.end()


async def test_tls_accepts_only_clients_of_current_authority(tmp_path: Path) -> None:
    server, old, new = trustme.CA(), trustme.CA(), trustme.CA()
    tls = ListenerTls(listener_files(tmp_path, server, old))
    contexts = {authority: trusting(server) for authority in (old, new)}
    for authority, context in contexts.items():
        authority.issue_cert("client", common_name="client").configure_cert(context)
    async with echoing(tls) as port:
        first = await talk(port, contexts[old])
        assert await first.says(b"in\n") == b"in\n"
        for stranger in (contexts[new], trusting(server)):
            assert not await is_let_in(port, stranger)
        authority_file(new, tmp_path)
        await tls.look()
        assert await is_let_in(port, contexts[new])
        assert not await is_let_in(port, contexts[old])
        assert await first.says(b"still here\n") == b"still here\n"
        first.end()


async def test_tls_resumption_fails_after_change_of_authority(tmp_path: Path) -> None:
    server, old, new = trustme.CA(), trustme.CA(), trustme.CA()
    tls = ListenerTls(listener_files(tmp_path, server, old))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trusting(server)
        context.maximum_version = version
        old.issue_cert("client", common_name="client").configure_cert(context)
        authority_file(old, tmp_path)
        await tls.look()
        async with echoing(tls) as port:
            session = await asyncio.to_thread(session_of, port, context)
            assert session is not None or version is ssl.TLSVersion.TLSv1_2
            authority_file(new, tmp_path)
            await tls.look()
            assert await asyncio.to_thread(session_of, port, context, session) is None


def session_of(port: int, context: ssl.SSLContext, before: ssl.SSLSession | None = None) -> ssl.SSLSession | None:
    """Connect, and resume the session `before` if given; return the new session, or None if the server refuses."""
    try:
        with (
            socket.create_connection((LOOPBACK, port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname=LOOPBACK, session=before) as connection,
        ):
            connection.sendall(b"in?\n")
            if connection.recv(16) != b"in?\n":
                return None
            session = connection.session
            connection.unwrap()
            return session
    except (ssl.SSLError, ConnectionError):
        return None


async def is_let_in(port: int, context: ssl.SSLContext) -> bool:
    try:  # with TLS 1.3, a client learns of its refusal only when it reads
        connection = await talk(port, context)
        try:
            return await connection.says(b"in?\n") == b"in?\n"
        finally:
            connection.end()
    except (ssl.SSLError, ConnectionError):
        return False


async def test_tls_closes_silent_connection_and_refuses_old_versions(tmp_path: Path) -> None:
    tls = ListenerTls(listener_files(tmp_path, trustme.CA()))
    assert tls.server_options(10.0)["ssl"].minimum_version is ssl.TLSVersion.TLSv1_2
    async with echoing(tls, timeout_s=0.1) as port, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        assert await reader.read() == b""
        writer.close()


def test_listener_tls_refuses_invalid_files_at_start(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, key = issue(authority, tmp_path)
    other = tmp_path / "other.pem"
    authority.issue_cert("other").private_key_pem.write_to_path(str(other))
    with pytest.raises(OperatorError, match="cannot read"):
        ListenerTls(TlsFiles(tmp_path / "none.pem", key))
    with pytest.raises(OperatorError, match="not a PEM certificate and its key"):
        ListenerTls(TlsFiles(certificate, other))
    with pytest.raises(OperatorError, match="has no PEM certificates"):
        ListenerTls(TlsFiles(certificate, key, key))
