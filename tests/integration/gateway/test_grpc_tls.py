"""Test of gRPC over TLS: client certificates, and reloaded certificate files."""

import os
import signal
from pathlib import Path

import grpc
import grpc.aio
import pytest
import trustme

from gateway.settings import GatewaySettings
from process.sockets import free_port
from tests.certificates import issue, listener_files
from tests.integration.gateway.conftest import Running
from tests.waiting import until


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def gateway_settings(tmp_path: Path, authority: trustme.CA) -> GatewaySettings:
    files = listener_files(tmp_path, authority, authority)
    return GatewaySettings(
        port=0, grpc_port=free_port(), tls_cert=files.certificate, tls_key=files.key, tls_client_ca=files.client_ca
    )


async def is_live(port: int | None, root: trustme.CA, certified: tuple[Path, Path] | None) -> bool:
    """Return true if a new connection with this root and client certificate succeeds."""
    certificate, key = [file.read_bytes() for file in certified] if certified else (None, None)
    credentials = grpc.ssl_channel_credentials(root.cert_pem.bytes(), key, certificate)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=20)
        code = await call.code()
        assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
        return code is grpc.StatusCode.OK


async def test_grpc_tls_verifies_client_and_reloads_files(
    gateway: Running, gateway_settings: GatewaySettings, tmp_path: Path, authority: trustme.CA
) -> None:
    assert gateway.url.startswith("https://")
    port, own = gateway_settings.grpc_port, tmp_path / "client"
    own.mkdir()
    certified = issue(authority, own, "batch")
    assert await is_live(port, authority, certified)
    assert not await is_live(port, authority, None)
    other = trustme.CA()
    issue(other, tmp_path)
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: is_live(port, other, certified))
    assert not await is_live(port, authority, certified)
