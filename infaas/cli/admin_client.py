"""Execution of administrative commands, either over a gateway's admin API or directly on Postgres.

With `INFAAS_URL`, requests go to that gateway from any machine, with the permissions of `INFAAS_KEY`. Otherwise they
are handled in this process, on the system of the home or of the environment; access to its Postgres is the permission.
Results and errors are the same either way.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from admin.api import Endpoint, HttpCall, RequestContext, checked, to_http
from infaas.cli.connect import asked_by, asked_from, find_database, find_kafka, gateway_url
from process.backoff import Backoff
from process.gateway_access import KEY_ENV, ClientTls, checked_key, own_headers, why_unreached, without_user
from process.pauses import retry_until_reachable
from registry.artifact_settings import ENV as ARTIFACTS_ENV
from schemas.access import ANYONE
from schemas.errors import ErrorCode, InfaasError, NotFound, OperatorError, query_error
from schemas.headers import STATUS
from schemas.result import error_message
from schemas.signature import JSON, TensorSpec
from store.pool import Pool, open_pool

Q = TypeVar("Q")
R = TypeVar("R")
_DONE: Final = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED)
_STALLED_S: Final = 600.0
"""Timeout in seconds for a gateway to accept the next piece of a file, or to store the whole file."""
_ON_THE_WAY_S: Final = 10.0
"""Seconds added to an endpoint's own deadline for the transfer."""
LOOK_S: Final = 0.5
"""Interval in seconds between two requests for the progress of an operation."""
_PATIENCE_S: Final = 60.0
"""Seconds for which progress requests are retried; the operation continues without the command."""


class AdminClient(Protocol):
    """Function that has admin requests executed, by a gateway or in this process."""

    async def __call__(self, endpoint: Endpoint[Q, R], request: Q) -> R:
        """Execute a request and return its result.

        Raises:
            InfaasError: the request failed; the message names the reason and a remedy.
        """
        ...


def call(home: Path, endpoint: Endpoint[Q, R], request: Q) -> R:
    """Execute one request and return its result.

    Raises:
        InfaasError: the request failed; the message names the reason and a remedy.
    """

    async def once() -> R:
        async with asking(home) as ask:
            return await ask(endpoint, request)

    return asyncio.run(once())


@asynccontextmanager
async def asking(home: Path) -> AsyncGenerator[AdminClient]:
    """Open a connection for several requests: to the gateway in `INFAAS_URL`, else to Postgres.

    Raises:
        OperatorError: the environment names no system, and none runs in `home`.
        StoreUnavailable: Postgres cannot be reached.
    """
    if url := gateway_url():
        async with gateway_session(url) as http:
            yield HttpAdmin(url, http)
    else:
        async with open_pool(find_database(home), max_size=2) as pool:
            context = local_context(home, pool)

            async def here(endpoint: Endpoint[Q, R], request: Q) -> R:
                return await endpoint(context, checked(endpoint, request))

            yield here


async def ask_until_reachable(ask: AdminClient, endpoint: Endpoint[Q, R], request: Q) -> R:
    """Request the progress of an operation, with retries while nothing answers: a gateway may be restarting.

    Raises:
        InfaasError: as for `AdminClient`; if nothing answers, after a minute.
    """
    return await retry_until_reachable(
        lambda: ask(endpoint, request),
        OperatorError,
        Backoff(LOOK_S, LOOK_S),
        may_pass=lambda error: not isinstance(error, NotFound),
        patience_s=_PATIENCE_S,
    )


def local_context(home: Path, pool: Pool) -> RequestContext:
    """Return the context of requests handled in this process, with all permissions and the user as actor."""
    return RequestContext(
        pool=pool,
        find_kafka=lambda: find_kafka(home),
        artifacts=os.environ.get(ARTIFACTS_ENV, ""),
        home=home,
        principal=ANYONE,
        actor=asked_by(),
        origin=asked_from(),
    )


class HttpAdmin:
    """Sender of requests to the gateway at `url`, with the key from the environment."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http

    async def __call__(self, endpoint: Endpoint[Q, R], request: Q) -> R:
        """Send a request to the gateway; raises as `AdminClient` does."""
        sent, timeout_s = to_http(endpoint, checked(endpoint, request)), endpoint.deadline_s + _ON_THE_WAY_S
        return _decoded(self._url, await fetch(self._url, self._http, sent, timeout_s), endpoint)

    async def send(self, path: str, size: int, pieces: AsyncIterator[bytes]) -> None:
        """Upload a file to a path, piece by piece.

        Raises:
            InfaasError: the upload failed; the message names the reason and a remedy.
        """
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size), "Expect": "100-continue"}
        loop = asyncio.get_running_loop()

        async def awaited() -> AsyncIterator[bytes]:
            async for piece in pieces:
                stalled.reschedule(loop.time() + _STALLED_S)
                yield piece

        try:
            async with (
                asyncio.timeout(_STALLED_S) as stalled,
                self._http.put(self._url + path, data=awaited(), headers=headers, allow_redirects=False) as answer,
            ):
                body = await answer.read()
        except TimeoutError:
            raise OperatorError(f"{without_user(self._url)} has accepted no data for {_STALLED_S:g} s") from None
        except aiohttp.ClientError as error:
            raise OperatorError(why_unreached(self._url, error)) from error
        if answer.status not in _DONE:
            raise gateway_error(self._url, answer.status, answer.headers, body)


def gateway_session(url: str) -> aiohttp.ClientSession:
    """Return an HTTP session for a gateway, with the certificates and the key from the environment."""
    tls = ClientTls().context() if url.startswith("https:") else True
    connector, timeout = aiohttp.TCPConnector(ssl=tls), aiohttp.ClientTimeout(total=None)
    return aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=own_headers(url, checked_key(os.environ.get(KEY_ENV, "")))
    )


async def fetch(url: str, http: aiohttp.ClientSession, sent: HttpCall, timeout_s: float) -> bytes:
    """Send an HTTP request to a gateway, and return the body of the response.

    Raises:
        InfaasError: the gateway cannot be reached, or answers with an error.
    """
    headers = {} if sent.body is None else {"Content-Type": JSON}
    target = URL(url + sent.target, encoded=True)
    try:
        async with (
            asyncio.timeout(timeout_s),
            http.request(sent.method, target, data=sent.body, headers=headers, allow_redirects=False) as answer,
        ):
            body = await answer.read()
    except TimeoutError:
        raise OperatorError(f"{without_user(url)} has not answered within {timeout_s:g} s") from None
    except aiohttp.ClientError as error:
        raise OperatorError(why_unreached(url, error)) from error
    if answer.status in _DONE:
        return body
    raise gateway_error(url, answer.status, answer.headers, body)


class ModelSignature(msgspec.Struct):
    """Name and inputs of a model, as reported by a gateway."""

    name: str
    inputs: list[TensorSpec]


async def model_signature(url: str, name: str) -> ModelSignature:
    """Request the inputs of a model from a gateway.

    Raises:
        InfaasError: the gateway cannot be reached, or knows no such model that the caller may use.
    """
    sent = HttpCall("GET", f"/v2/models/{quote(name, safe='')}", None)
    async with gateway_session(url) as http:
        return msgspec.json.decode(await fetch(url, http, sent, _ON_THE_WAY_S), type=ModelSignature)


def gateway_error(url: str, status: int, headers: Mapping[str, str], body: bytes) -> InfaasError:
    """Return the error of a gateway's response, of the same class as if it were raised in this process."""
    code, message = headers.get(STATUS), error_message(body)
    if code is None:
        return OperatorError(f"{without_user(url)} answers {status}: is it a gateway of this system?")
    if status == HTTPStatus.UNAUTHORIZED:
        return query_error(code, f"{message} (the command line sends the key in {KEY_ENV})")
    if status == HTTPStatus.NOT_FOUND and code == ErrorCode.INVALID_REQUEST:
        return NotFound(message)
    outage = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return OperatorError(message) if outage or status == HTTPStatus.CONFLICT else query_error(code, message)


def _decoded(url: str, body: bytes, endpoint: Endpoint[Any, R]) -> R:
    try:
        return msgspec.json.decode(body, type=endpoint.result)
    except msgspec.MsgspecError as error:
        raise OperatorError(
            f"{without_user(url)} answers {endpoint.name} with an unknown response ({error}): does it run another "
            "version?"
        ) from error
