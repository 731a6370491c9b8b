"""Tests of ports, of addresses that need a guard, and of the limit of open files."""

import resource
import socket
from collections import deque
from collections.abc import Generator
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from process.sockets import (
    LOOPBACK,
    address_text,
    allow_open_files,
    claim_port,
    free_port,
    is_loopback,
    open_files_limit,
)
from process.tls import TlsBytes, TlsFiles, certificate_names
from schemas.errors import OperatorError
from selector.settings import SelectorSettings

EVERYWHERE = ["0.0.0.0", "::", "", "192.0.2.1", "gateway.example", "localhost.example"]
CERT, KEY, CA = Path("cert.pem"), Path("key.pem"), Path("ca.pem")


def test_free_port_never_returns_a_port_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel reports a port as free that was just returned and has no listener yet."""
    monkeypatch.setattr("process.sockets._given", deque[int](maxlen=256))
    found = iter([1_051, 1_691, 1_691, 1_051, 1_692])

    def says(_probe: socket.socket) -> tuple[str, int]:
        return LOOPBACK, next(found)

    monkeypatch.setattr(socket.socket, "getsockname", says)
    assert [free_port(), claim_port(0, "--kafka-port"), free_port()] == [1_051, 1_691, 1_692]


def test_free_port_avoids_range_of_connections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "ip_local_port_range"
    told.write_text("24000\t60999\n")
    monkeypatch.setattr("process.sockets._RANGE_OF_CONNECTIONS", told)
    assert all(20_000 <= free_port() < 24_000 for _ in range(50))


@pytest.mark.parametrize("said", ["1024 65535", "", "no numbers"])
def test_free_port_is_chosen_by_kernel_without_range(
    said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "ip_local_port_range"
    told.write_text(said)
    monkeypatch.setattr("process.sockets._RANGE_OF_CONNECTIONS", told)
    asked, bind = set[int](), socket.socket.bind

    def record(probe: socket.socket, address: tuple[str, int]) -> None:
        asked.add(address[1])
        bind(probe, address)

    monkeypatch.setattr(socket.socket, "bind", record)
    assert free_port() > 0
    assert asked == {0}, "the kernel chooses if asked for port 0"


def test_claim_port_accepts_free_port() -> None:
    port = free_port()
    assert claim_port(port, "--kafka-port") == port


def test_ports_support_ipv6_addresses() -> None:
    port = claim_port(0, "--gateway-port", "::1")
    with socket.create_server(("::1", port), family=socket.AF_INET6), pytest.raises(OperatorError, match="is in use"):
        claim_port(port, "--gateway-port", "::1")
    assert address_text("::1", port) == f"[::1]:{port}"
    assert address_text(LOOPBACK, port) == f"{LOOPBACK}:{port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_hosts_are_always_allowed(host: str) -> None:
    assert is_loopback(host)
    assert GatewaySettings(host=host).host == host
    assert SelectorSettings.model_validate({"INFAAS_METRICS_HOST": host, "metrics_port": 9100}).metrics_host == host


@pytest.mark.parametrize("host", EVERYWHERE)
def test_gateway_settings_refuse_public_anonymous_host(host: str) -> None:
    with pytest.raises(OperatorError, match=r"--tls-client-ca.*--allow-anonymous"):
        GatewaySettings(host=host)
    with pytest.raises(OperatorError):  # a server certificate authenticates no client
        GatewaySettings(host=host, tls_cert=CERT, tls_key=KEY)


@pytest.mark.parametrize("host", EVERYWHERE)
def test_gateway_settings_allow_certified_or_permitted_host(host: str) -> None:
    assert GatewaySettings(host=host, tls_cert=CERT, tls_key=KEY, tls_client_ca=CA).tls_files == TlsFiles(CERT, KEY, CA)
    assert GatewaySettings(host=host, allow_anonymous=True).tls_files is None


@pytest.mark.parametrize("host", EVERYWHERE)
def test_metrics_host_needs_permission_beyond_loopback(host: str) -> None:
    fields = {"INFAAS_METRICS_HOST": host, "metrics_port": 9100}
    with pytest.raises(OperatorError, match="INFAAS_METRICS_ALLOW_ANONYMOUS=true"):
        SelectorSettings.model_validate(fields)
    assert SelectorSettings.model_validate(fields | {"metrics_port": 0})  # nothing listens
    assert SelectorSettings.model_validate(fields | {"INFAAS_METRICS_ALLOW_ANONYMOUS": True})


@pytest.mark.parametrize("files", [(CERT, None, None), (None, KEY, None), (None, None, CA), (CERT, None, CA)])
def test_tls_files_refuse_incomplete_set(files: tuple[Path | None, ...]) -> None:
    with pytest.raises(OperatorError, match="--tls-cert and --tls-key"):
        TlsFiles.given(*files)


def test_certificate_names_prefer_uris_then_dns_names() -> None:
    subject = ((("organizationName", "Acme"),), (("commonName", "batch"),))
    dns = (("DNS", "batch.example"), ("IP Address", "127.0.0.1"), ("DNS", "b.example"))
    assert certificate_names({"subject": subject, "subjectAltName": (*dns, ("URI", "spiffe://acme/batch"))}) == (
        "spiffe://acme/batch",
    )
    assert certificate_names({"subject": subject, "subjectAltName": dns}) == ("batch.example", "b.example")
    assert certificate_names({"subject": subject}) == ("batch",)
    assert certificate_names(None) == certificate_names({}) == ()


def test_tls_bytes_hide_key_in_repr() -> None:
    assert "secret" not in repr(TlsBytes(b"", b"secret", None))


@pytest.fixture
def limit() -> Generator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("limit")
def test_allow_open_files_raises_and_never_lowers() -> None:
    assert allow_open_files(310) == 310
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 310
    assert allow_open_files(200) == 200
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 310


def has_limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[tuple[int, int]]:
    """Simulate these limits, and return the list of the limits that are set."""
    found: list[tuple[int, int]] = []

    def get(_kind: int) -> tuple[int, int]:
        return soft, hard

    def put(_kind: int, limits: tuple[int, int]) -> None:
        found.append(limits)

    monkeypatch.setattr(resource, "getrlimit", get)
    monkeypatch.setattr(resource, "setrlimit", put)
    return found


def test_allow_open_files_stops_at_hard_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = has_limits(monkeypatch, 1024, 4096)
    assert allow_open_files(10_256) == 4096
    assert found == [(4096, 4096)]


def test_open_files_limit_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = has_limits(monkeypatch, resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert open_files_limit(10) == allow_open_files(10) == 10
    assert not found
