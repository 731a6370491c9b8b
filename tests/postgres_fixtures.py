"""Fixtures: Postgres databases.

One server a session (embedded, or the one `INFAAS_TEST_POSTGRES` points to, whose user may create databases), in it one
migrated template, and a fresh copy of that for each test: a copy takes some 20 ms, migrations many times that.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from store.embedded import EmbeddedPostgres
from store.migrate import upgrade
from store.pool import Pool, open_pool


def _database_dsn(server: str, name: str) -> str:
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


async def _on_server(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """DSN of a running server."""
    external = os.environ.get("INFAAS_TEST_POSTGRES")
    if external:
        yield external
        return
    # A loop of its own: the fixture outlives the loops of the tests.
    with asyncio.Runner() as runner:
        server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), durable=False)
        runner.run(server.__aenter__())
        try:
            yield server.dsn
        finally:
            runner.run(server.__aexit__())


@pytest.fixture(scope="session")
def _template(postgres_server: str) -> Generator[str]:
    name = f"template_{uuid4().hex}"
    asyncio.run(_on_server(postgres_server, f"CREATE DATABASE {name}"))
    try:
        asyncio.run(upgrade(_database_dsn(postgres_server, name)))
        yield name
    finally:
        asyncio.run(_on_server(postgres_server, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def database(postgres_server: str, _template: str) -> AsyncGenerator[str]:
    """DSN of a fresh migrated database."""
    name = f"test_{uuid4().hex}"
    await _on_server(postgres_server, f"CREATE DATABASE {name} TEMPLATE {_template}")
    try:
        yield _database_dsn(postgres_server, name)
    finally:
        await _on_server(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def store_pool(database: str) -> AsyncGenerator[Pool]:
    """An open pool on `database`."""
    async with open_pool(database) as pool:
        yield pool
