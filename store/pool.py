"""Connections to Postgres, and the one way to run a statement: with a deadline, and with errors the caller can act on.

A `DatabaseSession` is a pool or a connection inside a transaction; the functions of this package take either. Rows
become the structs of `schemas.rows`, whose field names are the column names; jsonb columns arrive decoded.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

import asyncpg
import msgspec

from store.errors import translate_errors

T = TypeVar("T")
Driver: TypeAlias = asyncpg.Pool | asyncpg.pool.PoolConnectionProxy | asyncpg.Connection

TIMEOUT_S: Final = 10
"""Seconds that one statement may take, waiting for a free connection included."""
_CLOSE_TIMEOUT_S: Final = 5.0
_CONVERT: Final = 200
"""Rows that are made into structs in one go, some 2 ms."""


class DatabaseSession:
    """Session that runs statements, each within `timeout_s`. Cancelling a call cancels it on the server.

    Every method raises `StoreUnavailable` when Postgres is away or late, and `StoreConflict` when a constraint
    refuses the change.
    """

    def __init__(self, driver: Driver, timeout_s: float) -> None:
        self._driver = driver
        self._timeout_s = timeout_s

    async def execute(self, query: str, *args: object) -> int:
        """Run a statement; returns the number of rows it touched."""
        with translate_errors():
            async with asyncio.timeout(self._timeout_s):
                tag = await self._driver.execute(query, *args)
        count = tag.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def execute_many(self, query: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once a row, pipelined; all or none."""
        with translate_errors():
            async with asyncio.timeout(self._timeout_s):
                await self._driver.executemany(query, rows)

    async def copy(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Append many rows at once; all or none."""
        with translate_errors():
            async with asyncio.timeout(self._timeout_s):
                await self._driver.copy_records_to_table(table, columns=list(columns), records=list(rows))

    async def fetch(self, kind: type[T], query: str, *args: object) -> list[T]:
        """Run a query; returns all rows, each as a `kind` of struct."""
        with translate_errors():
            async with asyncio.timeout(self._timeout_s):
                rows = await self._driver.fetch(query, *args)
        found: list[T] = []
        for start in range(0, len(rows), _CONVERT):
            found += [msgspec.convert(dict(row), kind) for row in rows[start : start + _CONVERT]]
            await asyncio.sleep(0)  # a catalog of thousands must not hold up the queries of its process
        return found

    async def fetch_one(self, kind: type[T], query: str, *args: object) -> T | None:
        """Run a query; returns the first row as a `kind` of struct, if there is one."""
        rows = await self.fetch(kind, query, *args)
        return rows[0] if rows else None

    async def fetch_value(self, kind: type[T], query: str, *args: object) -> T | None:
        """Run a query; returns the first column of the first row, if there is one."""
        with translate_errors():
            async with asyncio.timeout(self._timeout_s):
                value = await self._driver.fetchval(query, *args)
        return None if value is None else msgspec.convert(value, kind)


class Pool(DatabaseSession):
    """Pool of connections. Those that broke are replaced when next needed: it outlives a restart of Postgres."""

    def __init__(self, driver: asyncpg.Pool, timeout_s: float) -> None:
        super().__init__(driver, timeout_s)
        self._pool = driver

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[DatabaseSession]:
        """Open a session whose statements all happen or none; it commits at the end of the block."""
        with translate_errors():
            async with self._pool.acquire(timeout=self._timeout_s) as connection, connection.transaction():
                yield DatabaseSession(connection, self._timeout_s)

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[DatabaseSession]:
        """Open a session that only reads, and all of it as of one moment."""
        async with self.transaction() as session:
            await session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield session


@asynccontextmanager
async def open_pool(
    dsn: str, *, min_size: int = 1, max_size: int = 4, timeout_s: float = TIMEOUT_S
) -> AsyncGenerator[Pool]:
    """Open a pool, and close it at the end of the block.

    Raises:
        StoreUnavailable: Postgres cannot be reached now.
    """
    with translate_errors():
        driver = await asyncpg.create_pool(
            dsn,
            min_size=min_size,
            max_size=max_size,
            timeout=timeout_s,
            command_timeout=timeout_s,
            init=prepare,
            server_settings={"application_name": "infaas"},
        )
    try:
        yield Pool(driver, timeout_s)
    finally:
        await _close(driver)


async def connect(dsn: str, name: str, **server_settings: str) -> asyncpg.Connection:
    """Open one connection, for what needs a session of its own: LISTEN and advisory locks.

    Raises:
        StoreUnavailable: Postgres cannot be reached now.
    """
    with translate_errors():
        connection = await asyncpg.connect(
            dsn, timeout=TIMEOUT_S, server_settings={"application_name": name, **server_settings}
        )
        await prepare(connection)
    return connection


async def prepare(connection: Any) -> None:
    """Set a new connection up, so that jsonb columns arrive and leave as plain values."""
    # The binary format, since COPY knows no other: one byte of version, then the text.
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_to_jsonb, decoder=_from_jsonb, format="binary"
    )


def _to_jsonb(value: object) -> bytes:
    return b"\x01" + msgspec.json.encode(value)


def _from_jsonb(data: bytes) -> object:
    return msgspec.json.decode(memoryview(data)[1:])


async def _close(driver: asyncpg.Pool) -> None:
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await driver.close()
    except TimeoutError:
        driver.terminate()
