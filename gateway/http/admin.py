"""The routes of the admin API, made of the table of its endpoints: one handler for all.

What is done is in `admin/`, which a gateway imports (`import_acts`) once it serves: that would only delay its start.
Left until somebody asks, it might find other files than those that the process runs, where a new version was installed.
Statuses are those of the error table; where somebody set something up otherwise than a request needs it, 409, and where
something does not exist, 404.

Nothing is asked twice on behalf of a client. One that does not know whether its request arrived may send it again: a
PUT sets the same, a second DELETE finds nothing (404), and what a POST does twice is said by its endpoint.
"""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web

from admin.control import Control, actor_of
from broker.settings import KafkaSettings
from gateway.http.answers import HttpAnswer
from gateway.http.authorization import principal_of
from gateway.http.errors import error_answer
from gateway.http.pages import check_no_foreign_page
from gateway.http.request_bodies import RequestBodies
from gateway.settings import GatewaySettings
from process.exposure import is_loopback
from schemas.endpoints.endpoint import Endpoint, from_http
from schemas.endpoints.table import ENDPOINTS
from schemas.errors import DeadlineExceeded, ErrorCode, Forbidden, NotFound, OperatorError
from schemas.oip import JSON
from schemas.principal import ANYONE, Principal, Role
from store.pool import Pool

CONNECTIONS: Final = 3
"""Connections to Postgres for the admin API, opened when it is asked."""
_FOR_TENANTS: Final = CONNECTIONS - 1
"""Acts at once of those who are no administrators."""
_encode: Final = msgspec.json.Encoder().encode
_HEADERS: Final = {"Content-Type": JSON, "Cache-Control": "no-store"}


class AdminRoutes:
    """Handlers of the admin API.

    Args:
        settings: Those of the gateway.
        kafka: How acts reach Kafka.
        bodies: Reader of what is sent.
        pool: `CONNECTIONS` for what is asked here alone: however much that reads, jobs have theirs, and however much
            tenants ask, one is left to administrators.
        artifacts: Where files of models are; empty: in the home.
    """

    def __init__(
        self, settings: GatewaySettings, kafka: KafkaSettings, bodies: RequestBodies, pool: Pool, artifacts: str
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._bodies = bodies
        self._pool = pool
        self._artifacts = artifacts
        self._for_tenants = asyncio.Semaphore(_FOR_TENANTS)

    def routes(self) -> list[web.RouteDef]:
        """Routes to add to the application."""
        return [web.route(one.method, one.path, partial(self.answer, one)) for one in ENDPOINTS]

    async def answer(self, endpoint: Endpoint[Any, Any], request: web.Request) -> web.Response:
        """Do what is asked for, and answer with what came of it."""
        self.check_open(self._settings, request, endpoint)
        asked = await self._read(endpoint, request)
        handle = await asyncio.to_thread(import_acts)
        try:
            async with asyncio.timeout(endpoint.deadline_s), self.turn(principal_of(request)):
                result = await handle(endpoint, self.control(request), asked)
        except TimeoutError:
            message = f"{endpoint.name} took longer than {endpoint.deadline_s:g} s and was broken off"
            raise DeadlineExceeded(f"{message}; the audit tells how far it came") from None
        except NotFound as error:
            return error_answer(404, ErrorCode.INVALID_REQUEST, str(error)).response()
        except OperatorError as error:
            return error_answer(409, ErrorCode.INVALID_REQUEST, str(error)).response()
        return HttpAnswer(endpoint.status, _HEADERS, _encode(result)).response()

    def turn(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """What has someone's act wait until it may take a connection, and is open while it does."""
        return nullcontext() if principal.has(Role.ADMIN) else self._for_tenants

    def control(self, request: web.Request) -> Control:
        """Who asks, and what it is done with."""
        principal = principal_of(request)
        return Control(
            pool=self._pool,
            find_kafka=lambda: self._kafka,
            artifacts=self._artifacts,
            home=self._settings.home,
            principal=principal,
            actor=actor_of(principal),
            origin=f"http {request.remote or 'somewhere'}",
        )

    @staticmethod
    def check_open(settings: GatewaySettings, request: web.Request, endpoint: Endpoint[Any, Any]) -> None:
        """Check that no page of others asks, and that who need not say who they are comes from this machine.

        Nor may they ask for what outlasts that.

        Raises:
            Forbidden: it is not so.
        """
        known = principal_of(request) is not ANYONE
        if not known and endpoint.lets_in:
            raise Forbidden(
                f"this gateway asks nobody who they are, and {endpoint.name} would let somebody in where others do: "
                "start it with --auth, and ask with an administrator's key; or do it without INFAAS_URL"
            )
        if not known and not is_loopback(settings.host):
            raise Forbidden(
                f"this gateway listens at {settings.host} and asks nobody who they are, so nobody may "
                "administrate by it: start it with --auth, and make a key by `infaas keys create --role admin`"
            )
        check_no_foreign_page(request.headers, known_clients=known)

    async def _read(self, endpoint: Endpoint[Any, Any], request: web.Request) -> Any:
        body = b""
        try:
            body = await self._bodies.read(request.content, request.headers)
            if body and request.content_type != JSON:
                raise web.HTTPUnsupportedMediaType(reason=f"send JSON, and say so by `Content-Type: {JSON}`")
            return from_http(endpoint, request.match_info, request.query.items(), body)
        finally:
            self._bodies.release(len(body))


def import_acts() -> Any:
    """Import what does what is asked for; returns the function that does it."""
    from admin.handlers import handle

    return handle
