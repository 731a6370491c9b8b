"""Routes of the admin API, built from the table of its endpoints, with one handler for all.

`admin/` implements the endpoints. The gateway imports it (`import_acts`) after it has begun to serve, to shorten its
start. It does not wait for the first request: after an upgrade of the installation, the import would then find other
files than the process runs. Statuses are those of the error table, plus 409 for a conflict with the present state and
404 for an object that does not exist.

The gateway never repeats an act for a client. A client without a response may repeat its request: a PUT sets the same
value again, and a second DELETE finds nothing (404). Each POST endpoint documents the effect of a repetition.
"""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web

from admin.control import RequestContext, actor_of
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
from schemas.errors import DeadlineExceeded, ErrorCode, Forbidden, NotFound, OperatorError, RefusalReason
from schemas.oip import JSON
from schemas.principal import ANYONE, Principal, Role
from store.pool import Pool

CONNECTIONS: Final = 3
"""Connections to Postgres for the admin API, opened on demand."""
_FOR_TENANTS: Final = CONNECTIONS - 1
"""Maximum number of concurrent acts of callers without the role admin."""
_encode: Final = msgspec.json.Encoder().encode
_HEADERS: Final = {"Content-Type": JSON, "Cache-Control": "no-store"}


class AdminRoutes:
    """Handlers of the admin API.

    Args:
        settings: settings of the gateway.
        kafka: settings of Kafka.
        bodies: reader of request bodies.
        pool: `CONNECTIONS` connections for the admin API alone. Jobs have their own, and one is reserved for
            administrators, however many requests tenants send.
        artifacts: location of model files; empty for the default in the home folder.
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
        """Return the routes to add to the application."""
        return [web.route(one.method, one.path, partial(self.answer, one)) for one in ENDPOINTS]

    async def answer(self, endpoint: Endpoint[Any, Any], request: web.Request) -> web.Response:
        """Execute the request of an endpoint, and answer with its result."""
        self.check_open(self._settings, request, endpoint)
        asked = await self._read(endpoint, request)
        handle = await asyncio.to_thread(import_acts)
        try:
            async with asyncio.timeout(endpoint.deadline_s), self.turn(principal_of(request)):
                result = await handle(endpoint, self.control(request), asked)
        except TimeoutError:
            message = f"{endpoint.name} took longer than {endpoint.deadline_s:g} s and was broken off"
            message += "; the audit tells how far it came"
            raise DeadlineExceeded(message, reason=RefusalReason.ACT_TIMEOUT) from None
        except NotFound as error:
            return error_answer(404, ErrorCode.INVALID_REQUEST, str(error)).response()
        except OperatorError as error:
            return error_answer(409, ErrorCode.INVALID_REQUEST, str(error)).response()
        return HttpAnswer(endpoint.status, _HEADERS, _encode(result)).response()

    def turn(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """Return a context that waits for permission to use a connection and holds it while open."""
        return nullcontext() if principal.has(Role.ADMIN) else self._for_tenants

    def control(self, request: web.Request) -> RequestContext:
        """Return the caller and the resources of a request."""
        principal = principal_of(request)
        return RequestContext(
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
        """Check that the request comes from no foreign web page, and from this machine if authentication is off.

        Without authentication, endpoints whose effect would grant access elsewhere (`grants_access`) are refused, too.

        Raises:
            Forbidden: one of these checks failed.
        """
        known = principal_of(request) is not ANYONE
        if not known and endpoint.grants_access:
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
    """Import the implementation of the endpoints; return its dispatch function."""
    from admin.handlers import handle

    return handle
