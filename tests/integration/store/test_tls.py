"""Tests of TLS to Postgres: a trusted certificate is required, and errors name the reason."""

from pathlib import Path

import pytest

from store.errors import StoreFull, StoreUnavailable
from store.migrate import upgrade
from store.pool import open_pool
from tests.secured_kafka import Certificates
from tests.tls_postgres import encrypted


async def test_postgres_tls_verifies_server_certificate(database: str, tmp_path: Path) -> None:
    (others := tmp_path / "others").mkdir()
    ours, strangers = Certificates(tmp_path), Certificates(others)
    async with encrypted(database, *ours.issue("postgres"), ours.authority, tmp_path / "pgpass") as dsn:
        await upgrade(dsn)
        async with open_pool(dsn) as pool:
            assert await pool.fetch_value(int, "SELECT 1") == 1
        with pytest.raises(StoreUnavailable, match=r"certificate is not trusted.*sslrootcert"):
            async with open_pool(dsn.replace(str(ours.authority), str(strangers.authority))):
                pass
        with pytest.raises(StoreUnavailable, match="certificate is not trusted"):
            await upgrade(dsn.replace("127.0.0.1", "localhost"))


async def test_postgres_without_tls_is_not_store_full(database: str) -> None:
    with pytest.raises(StoreUnavailable, match="rejected SSL") as told:
        async with open_pool(f"{database}?sslmode=require"):
            pass
    assert not isinstance(told.value, StoreFull)
