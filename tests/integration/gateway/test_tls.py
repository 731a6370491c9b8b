"""Tests of HTTPS: client certificates at the gateway, and TLS settings of its clients."""

import asyncio
import socket
from pathlib import Path

import numpy as np
import pytest
import trustme

from gateway.settings import GatewaySettings
from infaas.client import ClientTls, InfaasClient
from schemas.errors import Internal, OperatorError
from tests.certificates import authority_file, issue, listener_files
from tests.doc_commands import block, run_commands
from tests.integration.gateway.conftest import Running
from tests.processes import environment, output_of
from tests.waiting import PATIENCE_S

INPUT = {"x": np.ones((2, 4), np.float32)}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def gateway_settings(tmp_path: Path, authority: trustme.CA) -> GatewaySettings:
    files = listener_files(tmp_path, authority, authority)
    return GatewaySettings(
        port=0, receive_timeout_s=0.5, tls_cert=files.certificate, tls_key=files.key, tls_client_ca=files.client_ca
    )


async def test_https_requires_client_certificate(gateway: Running, tmp_path: Path, authority: trustme.CA) -> None:
    assert gateway.url.startswith("https://")
    ca = authority_file(authority, tmp_path)
    (own := tmp_path / "client").mkdir()
    certified = ClientTls(ca, *issue(authority, own, "batch"))
    async with InfaasClient(gateway=gateway.url, tls=certified) as client:
        answer = await client.infer(gateway.task, INPUT)
        assert answer.outputs
    context = certified.context()  # not a query, so aiohttp handles the request
    async with gateway.http.get(f"{gateway.url}/v2", ssl=context) as response:
        assert (response.status, (await response.json())["name"]) == (200, "infaas")
    for stranger, words in (
        (ClientTls(ca), "gateway"),
        (ClientTls(certificate=certified.certificate, key=certified.key), "INFAAS_GATEWAY_CA"),
    ):
        async with InfaasClient(gateway=gateway.url, tls=stranger) as client:
            with pytest.raises(Internal, match=words):
                await client.infer(gateway.task, INPUT)


async def test_query_command_uses_remote_gateway(gateway: Running, tmp_path: Path, authority: trustme.CA) -> None:
    """Runs the commands of docs/security.md without a local system or Postgres."""
    (own := tmp_path / "client").mkdir()
    certificate, key = issue(authority, own, "batch")
    files = {"INFAAS_GATEWAY_CA": authority_file(authority, tmp_path), "INFAAS_CLIENT_CERT": certificate}
    env = {name: str(file) for name, file in (files | {"INFAAS_CLIENT_KEY": key}).items()}
    env["INFAAS_HOME"] = str(tmp_path / "none")
    command = ("-m", "infaas.cli.main", "query", gateway.task)
    for url in (gateway.url, f"{gateway.url}/v2"):
        code, output = await output_of(*command, env=env | {"INFAAS_GATEWAY": url})
        assert code == 0, output
        assert "variant" in output
    own = {
        "https://models.example:8080": gateway.url,
        "authority.pem": env["INFAAS_GATEWAY_CA"],
        "=me.pem": f"={certificate}",
        "=me-key.pem": f"={key}",
        'sentiment-text "a wonderful film"': gateway.task,
    }
    home = {"INFAAS_HOME": env["INFAAS_HOME"]}
    assert "variant" in await run_commands(block("docs/security.md#1"), tmp_path, environment(home), own)
    code, output = await output_of(*command, env=env)
    assert code == 1
    told = " ".join(output.split())
    assert "INFAAS_GATEWAY_CA, INFAAS_CLIENT_CERT, INFAAS_CLIENT_KEY are set, but INFAAS_GATEWAY" in told


async def test_connection_without_tls_handshake_is_closed(gateway: Running) -> None:
    host, _, port = gateway.url.removeprefix("https://").rpartition(":")
    with socket.create_connection((host, int(port))) as silent:
        silent.setblocking(False)
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.get_running_loop().sock_recv(silent, 1) == b""


def test_client_tls_names_unusable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFAAS_GATEWAY_CA", str(tmp_path / "none.pem"))
    with pytest.raises(OperatorError, match=r"none\.pem"):
        ClientTls().context()
    monkeypatch.delenv("INFAAS_GATEWAY_CA")
    with pytest.raises(OperatorError, match="INFAAS_CLIENT_CERT"):
        ClientTls(key=tmp_path / "key.pem").context()
