"""Tests of ports, of addresses that need a guard, and of the limit of open files."""

import resource
import socket
from collections import deque
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
)
from process.tls import TlsFiles, certificate_names
from schemas.errors import OperatorError
from selector.settings import SelectorSettings

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


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "gateway.example", "localhost.example"])
def test_public_hosts_need_client_certificates_or_permission(host: str) -> None:
    with pytest.raises(OperatorError, match=r"--tls-client-ca.*--allow-anonymous"):
        GatewaySettings(host=host)
    with pytest.raises(OperatorError):  # a server certificate authenticates no client
        GatewaySettings(host=host, tls_cert=CERT, tls_key=KEY)
    assert GatewaySettings(host=host, tls_cert=CERT, tls_key=KEY, tls_client_ca=CA).tls_files == TlsFiles(CERT, KEY, CA)
    assert GatewaySettings(host=host, allow_anonymous=True).tls_files is None
    metrics = {"INFAAS_METRICS_HOST": host, "metrics_port": 9100}
    with pytest.raises(OperatorError, match="INFAAS_METRICS_ALLOW_ANONYMOUS=true"):
        SelectorSettings.model_validate(metrics)
    assert SelectorSettings.model_validate(metrics | {"metrics_port": 0})  # nothing listens
    assert SelectorSettings.model_validate(metrics | {"INFAAS_METRICS_ALLOW_ANONYMOUS": True})


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


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "allowed", "put"),
    [
        (300, 4096, 310, 310, [(310, 4096)]),
        (300, 4096, 200, 200, []),
        (1024, 4096, 10_256, 4096, [(4096, 4096)]),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 10, 10, []),
    ],
    ids=["raised", "never lowered", "at most the hard limit", "no limit"],
)
def test_allow_open_files_raises_the_soft_limit(
    soft: int, hard: int, wanted: int, allowed: int, put: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = has_limits(monkeypatch, soft, hard)
    assert allow_open_files(wanted) == allowed
    assert found == put
