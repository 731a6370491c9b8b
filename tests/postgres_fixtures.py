"""Fixtures for Postgres: a fresh migrated database for each test.

A run has one server: an embedded one, or the server at `INFAAS_TEST_POSTGRES`, whose user must be allowed to create
databases. Each test gets a copy of a migrated template. A copy takes about 20 ms of CPU; migrations take 600.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from store.embedded import EmbeddedPostgres
from store.migrate import upgrade
from store.pool import Pool, open_pool
from tests.servers import served, servers, starts

OTHER_SYSTEM = "UPDATE system SET id = gen_random_uuid()::text"
"""Makes a copy of the template a system of its own."""


def _database_dsn(server: str, name: str) -> str:
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


async def _on_server(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _folder() -> "TemporaryDirectory[str]":
    """Return a folder that is removed with its server: pytest would keep its files, which may lie in memory."""
    return TemporaryDirectory(prefix="infaas-postgres-", ignore_cleanup_errors=True)


@pytest.fixture
def postgres_dir() -> Generator[Path]:
    """Empty folder for a test's own embedded server."""
    with _folder() as folder:
        yield Path(folder) / "pg"


@contextmanager
def _server(_folder_in_memory: Path) -> Generator[str]:
    external = os.environ.get("INFAAS_TEST_POSTGRES")
    if external:
        yield external
        return
    with _folder() as folder, served(lambda: EmbeddedPostgres(Path(folder) / "pg", durable=False)) as server:
        yield server.dsn


@contextmanager
def _migrated(server: str) -> Generator[str]:
    name = f"template_{uuid4().hex}"
    asyncio.run(_on_server(server, f"CREATE DATABASE {name}"))
    try:
        asyncio.run(upgrade(_database_dsn(server, name)))
        yield name
    finally:
        asyncio.run(_on_server(server, f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def _server_with_template(folder: Path) -> Generator[tuple[str, str]]:
    with _server(folder) as server, _migrated(server) as name:
        yield server, name


starts["postgres"] = _server_with_template


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> str:
    """DSN of a running server."""
    return servers(request.config).get("postgres")[0]


@pytest.fixture(scope="session")
def template(request: pytest.FixtureRequest) -> str:
    """Name of a migrated database, to be copied."""
    return servers(request.config).get("postgres")[1]


@asynccontextmanager
async def fresh_database(server: str, template: str) -> AsyncGenerator[str]:
    """Create a migrated database and yield its DSN; all copies share the template's system id."""
    name = f"test_{uuid4().hex}"
    # On the embedded server, which is not durable, a copy of files is fast. Postgres 14 has no other strategy.
    strategy = "" if os.environ.get("INFAAS_TEST_POSTGRES") else "STRATEGY file_copy"
    await _on_server(server, f"CREATE DATABASE {name} TEMPLATE {template} {strategy}")
    try:
        yield _database_dsn(server, name)
    finally:
        await _on_server(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def fresh_system(server: str, template: str) -> Generator[str]:
    """Create a migrated database as `fresh_database` does, but of a system of its own; tests may share it."""
    with asyncio.Runner() as runner:
        database = fresh_database(server, template)
        dsn = runner.run(database.__aenter__())
        try:
            runner.run(_on_server(dsn, OTHER_SYSTEM))
            yield dsn
        finally:
            runner.run(database.__aexit__(None, None, None))


@pytest.fixture
async def database(postgres_server: str, template: str) -> AsyncGenerator[str]:
    """DSN of a fresh migrated database."""
    async with fresh_database(postgres_server, template) as dsn:
        yield dsn


@pytest.fixture
async def store_pool(database: str) -> AsyncGenerator[Pool]:
    """An open pool on `database`."""
    async with open_pool(database) as pool:
        yield pool
