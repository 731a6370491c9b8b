"""Tests of the options of `infaas up`."""

import os
import socket
from pathlib import Path

import pytest

from infaas.up import options as module
from infaas.up.local_workers import check_cores
from infaas.up.options import UpOptions, claim_ports
from schemas.defaults import GRPC_PORT
from schemas.errors import OperatorError


def test_check_cores_refuses_oversubscription_by_default(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    options = UpOptions(home=tmp_path, workers=1, max_workers=cores + 1, cores_per_worker=1)
    with pytest.raises(OperatorError, match="--oversubscribe"):
        check_cores(options)
    check_cores(UpOptions(home=tmp_path, workers=1, max_workers=cores))
    check_cores(UpOptions(home=tmp_path, max_workers=cores + 1, cores_per_worker=1, oversubscribe=True))


def test_check_cores_ignores_workers_of_cluster_launcher(tmp_path: Path) -> None:
    options = UpOptions(home=tmp_path, workers=10_000, cores_per_worker=1, launcher="ray")
    check_cores(options)
    assert (options.first_workers, options.workers) == (0, 10_000)
    assert UpOptions(home=tmp_path, workers=3).first_workers == 3


FREE = UpOptions(home=Path("home"), postgres="postgresql://elsewhere", gateway_port=0, kafka_port=0)


def test_grpc_port_is_any_free_one_like_gateway_port() -> None:
    claimed = claim_ports(FREE)
    assert claimed.grpc_port
    assert claimed.grpc_port not in (claimed.gateway_port, GRPC_PORT)


def test_grpc_port_is_none_without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRPC_PACKAGES", ("no_such_package",))
    assert claim_ports(FREE).grpc_port is None
    with pytest.raises(OperatorError, match=r"--grpc-port needs gRPC.*pip install 'infaas\[grpc\]'"):
        claim_ports(UpOptions(home=FREE.home, postgres=FREE.postgres, gateway_port=0, kafka_port=0, grpc_port=0))


def test_grpc_port_is_none_if_default_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        port, usual = taken.getsockname()[1], free.getsockname()[1]
        monkeypatch.setattr(module, "GRPC_PORT", port)
        free.close()
        home, postgres = FREE.home, FREE.postgres
        options = UpOptions(home=home, postgres=postgres, gateway_port=usual, kafka_port=0)
        assert claim_ports(options).grpc_port is None
        with pytest.raises(OperatorError, match=f"port {port} .* choose another --grpc-port"):
            claim_ports(UpOptions(home=home, postgres=postgres, gateway_port=usual, kafka_port=0, grpc_port=port))
