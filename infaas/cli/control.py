"""The two ways in which a command does its work: over a gateway's admin API, or straight on Postgres.

With `INFAAS_URL` set it is the gateway there, from any machine, with what `INFAAS_KEY` allows; otherwise the system of
the home or of the environment, as whoever has its password. What comes back, and what is said of what does not, is the
same.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from infaas.cli.connect import asked_by, asked_from, find_database, find_kafka, gateway_url
from infaas.client.client import KEY_ENV, checked_key
from infaas.client.client_tls import ClientTls
from infaas.client.http_transport import own_headers, why_unreached, without_user
from registry.artifact_settings import ENV as ARTIFACTS_ENV
from schemas.endpoints.endpoint import Endpoint, HttpCall, checked, to_http
from schemas.errors import ErrorCode, InfaasError, NotFound, OperatorError, query_error
from schemas.headers import STATUS
from schemas.oip import JSON
from schemas.principal import ANYONE
from schemas.result import error_message
from schemas.rows.tensor_spec import TensorSpec
from store.pool import Pool, open_pool

if TYPE_CHECKING:
    from admin.control import Control

Q = TypeVar("Q")
R = TypeVar("R")
_DONE: Final = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED)
_STALLED_S: Final = 600.0
"""What is waited for a gateway to take the next piece of a file, or to keep the whole."""
_ON_THE_WAY_S: Final = 10.0
"""What is waited beyond an endpoint's own deadline."""
LOOK_S: Final = 0.5
"""Seconds after which one asks again how far something is."""
_PATIENCE_S: Final = 60.0
"""Seconds for which nobody may be there to say so: it goes on all the same."""


class Ask(Protocol):
    """Has one thing after the other done, in one way."""

    async def __call__(self, endpoint: Endpoint[Q, R], request: Q) -> R:
        """Have something done, and return what comes of it.

        Raises:
            InfaasError: it was not done; the message says why, and what to do.
        """
        ...


def call(home: Path, endpoint: Endpoint[Q, R], request: Q) -> R:
    """Have something done, and return what comes of it.

    Raises:
        InfaasError: it was not done; the message says why, and what to do.
    """

    async def once() -> R:
        async with asking(home) as ask:
            return await ask(endpoint, request)

    return asyncio.run(once())


@asynccontextmanager
async def asking(home: Path) -> AsyncGenerator[Ask]:
    """Open the way that the environment says, for several things.

    Raises:
        OperatorError: the environment names nothing, and nothing runs in `home`.
        StoreUnavailable: Postgres cannot be reached.
    """
    if url := gateway_url():
        async with gateway_session(url) as http:
            yield GatewayAsk(url, http)
    else:
        async with open_pool(find_database(home), max_size=2) as pool:
            yield _AskHere(local_control(home, pool))


async def ask_patiently(ask: Ask, endpoint: Endpoint[Q, R], request: Q) -> R:
    """Ask how far something is, again and again while nobody answers: a gateway may be started just now.

    Raises:
        InfaasError: as `Ask` does; where nobody answers, after a minute.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + _PATIENCE_S
    while True:
        try:
            return await ask(endpoint, request)
        except NotFound:
            raise
        except OperatorError:
            if loop.time() > until:
                raise
        await asyncio.sleep(LOOK_S)


def local_control(home: Path, pool: Pool) -> "Control":
    """What is done here is done with, straight on the system: who asks is whoever may use its Postgres."""
    from admin.control import Control  # of no use to a command that asks a gateway

    return Control(
        pool=pool,
        find_kafka=lambda: find_kafka(home),
        artifacts=os.environ.get(ARTIFACTS_ENV, ""),
        home=home,
        principal=ANYONE,
        actor=asked_by(),
        origin=asked_from(),
    )


class _AskHere:
    """Does what is asked for in this process, on Postgres."""

    def __init__(self, control: "Control") -> None:
        self._control = control

    async def __call__(self, endpoint: Endpoint[Q, R], request: Q) -> R:
        from admin.handlers import handle

        return await handle(endpoint, self._control, checked(endpoint, request))


class GatewayAsk:
    """Asks the gateway at `url`, with the key of the environment."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http

    async def __call__(self, endpoint: Endpoint[Q, R], request: Q) -> R:
        """Ask the gateway; raises as `Ask` does."""
        sent, timeout_s = to_http(endpoint, checked(endpoint, request)), endpoint.deadline_s + _ON_THE_WAY_S
        return _decoded(self._url, await fetch(self._url, self._http, sent, timeout_s), endpoint)

    async def send(self, path: str, size: int, pieces: AsyncIterator[bytes]) -> None:
        """Send a file to a path, piece by piece.

        Raises:
            InfaasError: it was not taken; the message says why, and what to do.
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
            raise OperatorError(f"{without_user(self._url)} has taken nothing for {_STALLED_S:g} s") from None
        except aiohttp.ClientError as error:
            raise OperatorError(why_unreached(self._url, error)) from error
        if answer.status not in _DONE:
            raise gateway_error(self._url, answer.status, answer.headers, body)


def gateway_session(url: str) -> aiohttp.ClientSession:
    """What connects to a gateway, with the certificates and the key of the environment."""
    tls = ClientTls().context() if url.startswith("https:") else True
    connector, timeout = aiohttp.TCPConnector(ssl=tls), aiohttp.ClientTimeout(total=None)
    return aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=own_headers(url, checked_key(os.environ.get(KEY_ENV, "")))
    )


async def fetch(url: str, http: aiohttp.ClientSession, sent: HttpCall, timeout_s: float) -> bytes:
    """Send something to a gateway, and return the body of its answer.

    Raises:
        InfaasError: it cannot be reached, or does not do it.
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
    """What a gateway tells of a model that it serves."""

    name: str
    inputs: list[TensorSpec]


async def model_signature(url: str, name: str) -> ModelSignature:
    """Ask a gateway what a model takes.

    Raises:
        InfaasError: it cannot be reached, or knows no such model for who asks.
    """
    sent = HttpCall("GET", f"/v2/models/{quote(name, safe='')}", None)
    async with gateway_session(url) as http:
        return msgspec.json.decode(await fetch(url, http, sent, _ON_THE_WAY_S), type=ModelSignature)


def gateway_error(url: str, status: int, headers: Mapping[str, str], body: bytes) -> InfaasError:
    """The error that a gateway has answered with, as it would be raised here."""
    code, message = headers.get(STATUS), error_message(body)
    if code is None:
        return OperatorError(f"{without_user(url)} answers {status}: is it a gateway of this system?")
    if status == HTTPStatus.UNAUTHORIZED:
        return query_error(code, f"{message} (the command line sends what {KEY_ENV} holds)")
    if status == HTTPStatus.NOT_FOUND and code == ErrorCode.INVALID_REQUEST:
        return NotFound(message)
    outage = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return OperatorError(message) if outage or status == HTTPStatus.CONFLICT else query_error(code, message)


def _decoded(url: str, body: bytes, endpoint: Endpoint[Any, R]) -> R:
    try:
        return msgspec.json.decode(body, type=endpoint.result)
    except msgspec.MsgspecError as error:
        raise OperatorError(
            f"{without_user(url)} answers {endpoint.name} in a way that is not known here ({error}): is it of another "
            "version?"
        ) from error
