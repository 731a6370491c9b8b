"""Routes of the admin API, built from the table of its endpoints, with one handler for all.

`admin/` implements the endpoints. Statuses are those of the error table, plus 409 for a conflict with the present state
and 404 for an object that does not exist.

The gateway never repeats an act for a client. A client without a response may repeat its request: a PUT sets the same
value again, and a second DELETE finds nothing (404). Each POST endpoint documents the effect of a repetition.

A gateway without authentication trusts all clients on loopback. A browser on the machine is such a client, with every
page that it shows. These rules refuse foreign pages and do not affect programs:

* **A foreign `Origin` is refused.** Browsers send `Origin` with requests that may change data, and a page cannot
  suppress it.
* **A `Sec-Fetch-Site` of another site is refused.** Browsers send it with reading requests, too, such as for an image.
  The page could not read the response, but it could cause work in the gateway.
* **Without authentication, `Host` must be an address or `localhost`.** After DNS rebinding, a page under a name that
  resolves to 127.0.0.1 has the same origin as the gateway, but still sends its own name.

Bodies must have the type JSON, which no HTML form can send. Preflight requests get no permission.
"""

import asyncio
import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

import msgspec
from aiohttp import web

from admin.api import Endpoint, RequestContext, Route, actor_of, from_http
from admin.endpoints import ENDPOINTS
from broker.kafka.settings import KafkaSettings
from gateway.http.answers import HttpAnswer, error_answer
from gateway.http.authorization import principal_of
from gateway.http.bodies import RequestBodies
from gateway.settings import GatewaySettings
from process.sockets import is_loopback
from schemas.access import ANYONE, Principal, Role
from schemas.errors import DeadlineExceeded, ErrorCode, Forbidden, NotFound, OperatorError, RefusalReason
from schemas.signature import JSON
from store.pool import Pool

CONNECTIONS: Final = 3
"""Connections to Postgres for the admin API, opened on demand."""
_FOR_TENANTS: Final = CONNECTIONS - 1
"""Maximum number of concurrent acts of callers without the role admin."""
_encode: Final = msgspec.json.Encoder().encode
_HEADERS: Final = {"Content-Type": JSON, "Cache-Control": "no-store"}
_LOCAL: Final = "localhost"
_OF_OTHERS: Final = ("cross-site", "same-site")
_HOST: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")


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
        try:
            result = await self.execute(request, principal_of(request), endpoint, asked)
        except NotFound as error:
            return error_answer(404, ErrorCode.INVALID_REQUEST, str(error)).response()
        except OperatorError as error:
            return error_answer(409, ErrorCode.INVALID_REQUEST, str(error)).response()
        return HttpAnswer(endpoint.status, _HEADERS, _encode(result)).response()

    async def execute(
        self, request: web.Request, principal: Principal, endpoint: Endpoint[Any, Any], asked: Any
    ) -> Any:
        """Execute a request of a caller with the endpoint's deadline, in the caller's turn.

        Raises:
            Forbidden: without authentication, the endpoint is not for this gateway (see `check_known`).
            DeadlineExceeded: the endpoint took too long.
            InfaasError: the endpoint failed.
        """
        self.check_known(self._settings, principal, endpoint)
        try:
            async with asyncio.timeout(endpoint.deadline_s), self.turn(principal):
                return await endpoint(self.control(request, principal), asked)
        except TimeoutError:
            message = f"{endpoint.name} took longer than {endpoint.deadline_s:g} s and was cancelled"
            message += "; the audit log shows its progress"
            raise DeadlineExceeded(message, reason=RefusalReason.ACT_TIMEOUT) from None

    def turn(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """Return a context that waits for permission to use a connection and holds it while open."""
        return nullcontext() if principal.has(Role.ADMIN) else self._for_tenants

    def control(self, request: web.Request, principal: Principal) -> RequestContext:
        """Return the caller and the resources of a request."""
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
    def check_open(settings: GatewaySettings, request: web.Request, route: Route[Any, Any]) -> None:
        """Check that the request comes from no foreign web page, and from this machine if authentication is off.

        Without authentication, routes whose effect would grant access elsewhere (`grants_access`) are refused, too.

        Raises:
            Forbidden: one of these checks failed.
        """
        principal = principal_of(request)
        AdminRoutes.check_known(settings, principal, route)
        check_no_foreign_page(request.headers, known_clients=principal is not ANYONE)

    @staticmethod
    def check_known(settings: GatewaySettings, principal: Principal, route: Route[Any, Any]) -> None:
        """Check that the caller has authenticated, or that a route is open to all processes of this machine.

        Raises:
            Forbidden: it is not.
        """
        if principal is not ANYONE:
            return
        if route.grants_access:
            raise Forbidden(
                f"this gateway authenticates nobody, and {route.name} would grant access elsewhere: start it with "
                "--auth and send an administrator's key, or run the command without INFAAS_URL"
            )
        if not is_loopback(settings.host):
            raise Forbidden(
                f"this gateway listens at {settings.host} and authenticates nobody, so it admits no "
                "administration: start it with --auth, and create a key with `infaas keys create --role admin`"
            )

    async def _read(self, endpoint: Endpoint[Any, Any], request: web.Request) -> Any:
        async with self._bodies.reading(request.content, request.headers) as body:
            if body and request.content_type != JSON:
                raise web.HTTPUnsupportedMediaType(reason=f"send JSON with the header `Content-Type: {JSON}`")
            return from_http(endpoint, request.match_info, request.query.items(), body)


def check_no_foreign_page(headers: Mapping[str, str], *, known_clients: bool) -> None:
    """Check that a request comes from no foreign web page; the names of headers are case-insensitive.

    Args:
        headers: headers of the request.
        known_clients: true if clients must authenticate.

    Raises:
        Forbidden: the request comes from a foreign page.
    """
    host, origin = headers.get("Host", ""), headers.get("Origin")
    if origin is not None and origin.lower() not in {f"{scheme}://{host.lower()}" for scheme in ("http", "https")}:
        raise Forbidden(f"the admin API accepts no requests from pages of others, such as {origin[:80]!r}")
    if headers.get("Sec-Fetch-Site", "").lower() in _OF_OTHERS:
        raise Forbidden("the admin API accepts no requests from pages of others")
    if not known_clients:
        check_host(headers)


def check_host(headers: Mapping[str, str]) -> None:
    """Check that a request without authentication names this machine by an address or as `localhost`.

    Raises:
        Forbidden: it uses another name.
    """
    host = headers.get("Host", "")
    if not is_address(host):
        raise Forbidden(
            f"without --auth, call the admin API by an address or as {_LOCAL}, not as {host[:80]!r}: the owner of a "
            "name can point it to this machine"
        )


def is_address(host: str) -> bool:
    """Return true if a `Host` header holds an address or `localhost`, with or without a port."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    try:
        return found[1].lower() == _LOCAL or bool(ip_address(found[1].strip("[]")))
    except ValueError:
        return False
