"""Fixtures: Postgres databases.

One server a session (embedded, or the one `INFAAS_TEST_POSTGRES` points to, whose user may create databases), in it one
migrated template, and a fresh copy of that for each test: a copy takes some 20 ms, migrations many times that.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
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


def _folder() -> "TemporaryDirectory[str]":
    """Not pytest's: under root the server is another user, whom the next pytest to start shuts out of that folder."""
    return TemporaryDirectory(prefix="infaas-postgres-", ignore_cleanup_errors=True)


@pytest.fixture
def postgres_dir() -> Generator[Path]:
    """An empty folder for an embedded server of a test's own."""
    with _folder() as folder:
        yield Path(folder) / "pg"


@pytest.fixture(scope="session")
def postgres_server() -> Generator[str]:
    """DSN of a running server."""
    external = os.environ.get("INFAAS_TEST_POSTGRES")
    if external:
        yield external
        return
    # A loop of its own: the fixture outlives the loops of the tests.
    with _folder() as folder, asyncio.Runner() as runner:
        server = EmbeddedPostgres(Path(folder) / "pg", durable=False)
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


@asynccontextmanager
async def fresh_database(server: str, template: str) -> AsyncGenerator[str]:
    """DSN of a migrated database, while the context is open. All have the template's id of a system."""
    name = f"test_{uuid4().hex}"
    await _on_server(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield _database_dsn(server, name)
    finally:
        await _on_server(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(postgres_server: str, _template: str) -> AsyncGenerator[str]:
    """DSN of a fresh migrated database."""
    async with fresh_database(postgres_server, _template) as dsn:
        yield dsn


@pytest.fixture
async def store_pool(database: str) -> AsyncGenerator[Pool]:
    """An open pool on `database`."""
    async with open_pool(database) as pool:
        yield pool
