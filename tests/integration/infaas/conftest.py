"""Fixtures of the command-line tests: a shell with a database."""

import pytest

from store.pool import Pool
from store.settings import ENV as POSTGRES_ENV
from tests.example_rows import register
from tests.unit.infaas.conftest import shell
from tests.unit.infaas.shell import Shell

__all__ = ["shell"]


@pytest.fixture
def connected(shell: Shell, database: str, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv(POSTGRES_ENV, database)
    return shell


@pytest.fixture
async def registered(connected: Shell, store_pool: Pool) -> Shell:
    await register(store_pool, "mlp.onnx-fp32.cpu", "cnn.onnx-fp32.cpu")
    return connected
