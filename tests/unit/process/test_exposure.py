"""Tests of the addresses on which services may listen, and of TLS files."""

from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from process.exposure import is_loopback
from process.tls import TlsBytes, TlsFiles, certificate_names
from schemas.errors import OperatorError
from selector.settings import SelectorSettings

EVERYWHERE = ["0.0.0.0", "::", "", "192.0.2.1", "gateway.example", "localhost.example"]
CERT, KEY, CA = Path("cert.pem"), Path("key.pem"), Path("ca.pem")


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
