"""Connections of a client that authenticates by SASL, each replaced before the broker ends its session (KIP-368).

A broker that limits sessions (`connections.max.reauth.ms`, or the lifetime of a token) closes a connection that
receives a request after the end of its session. aiokafka does not authenticate again, so the request would fail.

    connected -> session near its end -> another connection is opened -> it takes over when no request is pending
                                                                      -> shortly before the end: after those pending

Rules.
* A request that is pending on the old connection is answered there. Nothing is sent on the new connection before that,
  so the broker receives requests in order, as producers need it.
* A connection that is not used near the end of its session is replaced at the next request.
"""

import asyncio
import logging
import math
import time
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError, StaleMetadata
from aiokafka.protocol.admin import SaslAuthenticateRequest

log = logging.getLogger(__name__)

_RENEW_AT: Final = 0.7
"""Part of a session's lifetime after which another connection is opened."""
_END_AT: Final = 0.9
"""Part of a session's lifetime after which nothing more is sent on the connection."""


class SessionConnection(AIOKafkaConnection):
    """Connection that knows the end of its session."""

    renew_s = end_s = math.inf
    """Monotonic times at which another connection is opened, and after which nothing more is sent."""

    def send(self, request: Any, expect_response: bool = True) -> Any:
        """Send a request; return an awaitable of its answer."""
        sent: Any = super().send(request, expect_response)
        return self._authenticated(sent) if isinstance(request, SaslAuthenticateRequest) else sent

    async def _authenticated(self, sent: Any) -> Any:
        answer = await sent
        life_s = getattr(answer, "session_lifetime_ms", 0) / 1000
        if life_s > 0:
            now_s = time.monotonic()
            self.renew_s, self.end_s = now_s + _RENEW_AT * life_s, now_s + _END_AT * life_s
        return answer

    async def answered(self) -> None:
        """Wait until no request is pending."""
        requests: Any = self._requests
        if waiting := [answer for _, _, answer in requests if not answer.done()]:
            await asyncio.wait(waiting)


class SaslConnections:
    """Source of a client's connections, in place of its `_get_conn`."""

    def __init__(self, client: AIOKafkaClient, options: dict[str, Any]) -> None:
        """Take the keyword arguments of a connection from `options`."""
        self._client = client
        self._options = options
        self._conns: dict[Any, SessionConnection] = client._conns  # pyright: ignore[reportPrivateUsage]
        self._opening: dict[Any, asyncio.Task[SessionConnection | None]] = {}

    async def get(self, node_id: Any, *, group: Any = 0, no_hint: bool = False) -> SessionConnection | None:
        """Return the connection to a broker, and open it if there is none; None if the broker cannot be reached."""
        key = (node_id, group)
        while True:
            connection = self._conns.get(key)
            if connection is None or not connection.connected():
                self._conns.pop(key, None)
                return await self._take_over(key)
            now_s = time.monotonic()
            if now_s < connection.renew_s:
                return connection
            opening = self._open(key)
            if now_s < connection.end_s and not opening.done():
                return connection
            if now_s < connection.end_s and connection._requests:  # pyright: ignore[reportPrivateUsage]
                return connection
            await asyncio.wait([opening])
            await connection.answered()
            if self._conns.get(key) is connection:  # else another request has replaced it
                del self._conns[key]
                connection.close()

    async def _take_over(self, key: Any) -> SessionConnection | None:
        opening = self._open(key)
        await asyncio.wait([opening])
        if self._opening.get(key) is opening:
            del self._opening[key]
        connection = None if opening.cancelled() else opening.result()
        if connection is not None and self._conns.get(key) is None:
            self._conns[key] = connection
        return self._conns.get(key)

    def _open(self, key: Any) -> "asyncio.Task[SessionConnection | None]":
        """Open a connection beside the current one, unless one is being opened or is open and usable."""
        opening = self._opening.get(key)
        if opening is not None and opening.done():
            found = None if opening.cancelled() else opening.result()
            if found is None or not found.connected() or time.monotonic() >= found.end_s:
                opening = None
        if opening is None:
            opening = self._opening[key] = asyncio.create_task(self._connect(key[0]), name=f"connect to {key[0]}")
        return opening

    async def _connect(self, node_id: Any) -> SessionConnection | None:
        client = self._client
        try:
            broker: Any = client.cluster.broker_metadata(node_id)
            if broker is None:
                raise StaleMetadata(f"broker {node_id} is not in the metadata")
            on_close: Any = client._on_connection_closed  # pyright: ignore[reportPrivateUsage]
            connection = SessionConnection(broker.host, broker.port, on_close=on_close, **self._options)
            await connection.connect()
        except (OSError, TimeoutError, KafkaError) as error:
            log.error("cannot connect to broker %s: %s", node_id, error)
            client.force_metadata_update()
            return None
        return connection

    async def close(self) -> None:
        """Stop opening connections, and close the ones that were opened but not used."""
        opening, self._opening = [*self._opening.values()], {}
        for task in opening:
            task.cancel()
        for found in await asyncio.gather(*opening, return_exceptions=True):
            if isinstance(found, SessionConnection):
                found.close()
