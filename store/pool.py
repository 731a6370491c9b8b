"""Connections to Postgres. Every statement runs with a timeout and raises errors that callers can handle.

A `DatabaseSession` is a pool, a shared connection or a transaction; the functions of this package accept any of them.
Rows become the structs of `schemas.rows`, whose field names are the column names; jsonb columns are decoded.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from typing import Any, Final, TypeAlias, TypeVar

import asyncpg
import msgspec

from process.backoff import Backoff
from process.module_names import module_name
from process.pauses import retry_until_reachable
from store.errors import StoreFull, translate_errors
from store.settings import checked_dsn

T = TypeVar("T")
Driver: TypeAlias = asyncpg.Pool | asyncpg.pool.PoolConnectionProxy | asyncpg.Connection

TIMEOUT_S: Final = 10
"""Timeout of one statement in seconds, including the wait for a free connection."""
_CLOSE_TIMEOUT_S: Final = 5.0
_FULL: Final = Backoff(first_s=0.1, longest_s=1.0, jitter=0.5)
"""Pauses between attempts to connect to a full server."""
_NO_TLS: Final = "rejected SSL upgrade"
"""The driver's error for a server without TLS. Its type, ConnectionError, is also used for other broken connections."""
_CONVERT: Final = 200
"""Rows that are converted to structs in one step, which takes about 2 ms."""
_NAME: Final = re.compile(r"^-- name: (\w+)\n(-- .+)\n", re.MULTILINE)


class DatabaseSession:
    """Session that runs statements, each with a timeout of `timeout_s`. Cancelling a call cancels it on the server.

    Every method raises `StoreUnavailable` if Postgres is unavailable or too slow, and `StoreConflict` if a constraint
    refuses the change.
    """

    def __init__(self, timeout_s: float, driver: Driver | None = None) -> None:
        self._timeout_s = timeout_s
        self._driver: Any = driver

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Any]:
        """Provide the driver's connection for one statement or transaction."""
        yield self._driver

    async def execute(self, query: str, *args: object) -> int:
        """Run a statement; return the number of affected rows."""
        with translate_errors():
            async with asyncio.timeout(self._timeout_s), self.connection() as connection:
                tag = await connection.execute(query, *args)
        count = tag.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def execute_many(self, query: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row, pipelined; all succeed or none."""
        with translate_errors():
            async with asyncio.timeout(self._timeout_s), self.connection() as connection:
                await connection.executemany(query, rows)

    async def copy(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Append many rows with COPY; all or none."""
        with translate_errors():
            async with asyncio.timeout(self._timeout_s), self.connection() as connection:
                await connection.copy_records_to_table(table, columns=list(columns), records=list(rows))

    async def fetch(self, kind: type[T], query: str, *args: object) -> list[T]:
        """Run a query; return all rows as structs of type `kind`."""
        with translate_errors():
            async with asyncio.timeout(self._timeout_s), self.connection() as connection:
                rows = await connection.fetch(query, *args)
        found: list[T] = []
        for start in range(0, len(rows), _CONVERT):
            found += [msgspec.convert(dict(row), kind) for row in rows[start : start + _CONVERT]]
            await asyncio.sleep(0)  # converting thousands of rows must not block the queries of this process
        return found

    async def fetch_one(self, kind: type[T], query: str, *args: object) -> T | None:
        """Run a query; return the first row as a struct of type `kind`, or None."""
        rows = await self.fetch(kind, query, *args)
        return rows[0] if rows else None

    async def fetch_values(self, kind: type[T], query: str, *args: object) -> list[T]:
        """Run a query; return the first column of all rows."""
        with translate_errors():
            async with asyncio.timeout(self._timeout_s), self.connection() as connection:
                rows = await connection.fetch(query, *args)
        return [msgspec.convert(row[0], kind) for row in rows]

    async def fetch_value(self, kind: type[T], query: str, *args: object) -> T | None:
        """Run a query; return the first column of the first row, or None."""
        with translate_errors():
            async with asyncio.timeout(self._timeout_s), self.connection() as connection:
                value = await connection.fetchval(query, *args)
        return None if value is None else msgspec.convert(value, kind)


class Pool(DatabaseSession):
    """Session that takes a connection per statement and supports transactions; it survives restarts of Postgres."""

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[DatabaseSession]:
        """Open a transaction, which commits at the end of the block."""
        with translate_errors():
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._timeout_s):
                    connection = await stack.enter_async_context(self.connection())
                async with connection.transaction():
                    yield DatabaseSession(self._timeout_s, connection)

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[DatabaseSession]:
        """Open a read-only transaction on one snapshot of the database."""
        async with self.transaction() as session:
            await session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield session


class _SeveralConnections(Pool):
    """Pool of several connections. A broken connection is replaced at its next use."""

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Any]:
        async with self._driver.acquire() as connection:
            yield connection


@asynccontextmanager
async def open_pool(
    dsn: str, *, min_size: int = 1, max_size: int = 4, timeout_s: float = TIMEOUT_S
) -> AsyncGenerator[Pool]:
    """Open a pool of up to `max_size` connections, and close it at the end of the block.

    Raises:
        StoreUnavailable: Postgres is unreachable.
    """
    with translate_errors():
        driver = await asyncpg.create_pool(
            checked_dsn(dsn),
            min_size=min_size,
            max_size=max_size,
            timeout=timeout_s,
            command_timeout=timeout_s,
            connect=_connect,
            init=prepare,
            server_settings={"application_name": "infaas"},
        )
    try:
        yield _SeveralConnections(timeout_s, driver)
    finally:
        await _close(driver)


async def connect(dsn: str, name: str, **server_settings: str) -> asyncpg.Connection:
    """Open a single connection, for features that need their own session: LISTEN and advisory locks.

    Raises:
        StoreUnavailable: Postgres is unreachable, or all of its connections are in use.
    """
    with translate_errors():
        connection = await _connect(
            checked_dsn(dsn), timeout=TIMEOUT_S, server_settings={"application_name": name, **server_settings}
        )
        await prepare(connection)
    return connection


async def _connect(*args: Any, timeout: Any, **settings: Any) -> Any:  # noqa: ASYNC109 - the driver's
    """Connect; if all connections of the server are in use, retry until the timeout, then raise `StoreFull`."""

    async def connect_once() -> Any:
        try:
            return await asyncpg.connect(*args, timeout=timeout, **settings)
        except ConnectionRefusedError:
            raise
        except (asyncpg.TooManyConnectionsError, ConnectionError) as error:  # ConnectionError: too many clients at once
            if _NO_TLS in str(error):  # permanent: a retry cannot succeed
                raise
            raise StoreFull(str(error)) from error

    return await retry_until_reachable(connect_once, StoreFull, _FULL, patience_s=timeout)


async def prepare(connection: Any) -> None:
    """Prepare a new connection: convert jsonb columns to and from Python values."""
    # The binary format, because COPY supports no other: one version byte, then the text.
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


def load_queries(family: str) -> Mapping[str, str]:
    """Load the queries of `queries/<family>.sql` by name.

    Raises:
        ValueError: a name occurs twice, or a query has no line with its purpose.
    """
    text = files(module_name("store")).joinpath("queries", f"{family}.sql").read_text(encoding="utf-8")
    _head, *parts = _NAME.split(text)
    queries: dict[str, str] = {}
    for name, _purpose, body in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
        if name in queries:
            raise ValueError(f"{family}.sql has two queries named {name}")
        queries[name] = body.strip()
    if len(queries) != text.count("-- name:"):
        raise ValueError(f"{family}.sql has a query without a `-- purpose` line after its name")
    return queries
