"""Fixtures for the command line without a running system."""

from pathlib import Path

import pytest

from store.settings import ENV as POSTGRES_ENV
from tests.model_files import make_model
from tests.unit.infaas.shell import Shell

__all__ = ["make_model"]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    for name in ("INFAAS_KAFKA", POSTGRES_ENV, "INFAAS_GATEWAY", "INFAAS_URL", "INFAAS_KEY", "INFAAS_GATEWAY_CA"):
        monkeypatch.delenv(name, raising=False)
    return Shell(tmp_path)
