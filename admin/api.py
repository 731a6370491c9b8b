"""Endpoints of the admin API, `/v1`: declaration, dispatch, and conversion of requests to and from HTTP.

An endpoint is a coroutine function of the caller and a request, with `@endpoint`: `await pin(context, request)`. Its
docstring is the endpoint's summary in the OpenAPI document and the help of its command. The request is a struct, from
which the command's options are generated (`param`). The command line sends it to a gateway (`to_http`), which reads it
(`from_http`), or executes it itself.

The fields of a request that are named in the path are sent there. The other fields are sent in the query string of a
GET or DELETE, which leaves None out, or as a JSON object in the body of a POST or PUT. A name that is not a field is
refused: a misspelt limit would otherwise be ignored without notice.

The types of the fields must bound their values (numbers are a `Count` or similar), because no later layer checks them
again. No text may hold characters that Postgres cannot store.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Final, Generic, Literal, NamedTuple, TypeVar, get_type_hints
from urllib.parse import quote, urlencode

import msgspec
from msgspec.inspect import CollectionType, EnumType, Metadata, NoneType, UnionType

from broker.kafka.settings import KafkaSettings
from registry.artifact_settings import open_artifacts, open_exchange
from registry.artifacts import ArtifactStore
from schemas.access import ANYONE, Principal, Role
from schemas.errors import InvalidRequest
from schemas.headers import value_text
from schemas.query_names import nearest_name
from schemas.rows.audit import AuditAct, AuditVerb
from store.pool import Pool

Q = TypeVar("Q")
R = TypeVar("R")


def param(
    text: str, *flags: str, metavar: str | None = None, argument: bool = False, ahead: bool = False
) -> msgspec.Meta:
    """Describe a field of a request for the OpenAPI document and for the option of its command.

    Args:
        text: description and help.
        flags: names of the option; default: the field's name.
        metavar: placeholder of the value in the command's help.
        argument: true for a positional argument, as every required field is.
        ahead: true if a distance such as `2h` means a time from now on, not ago.
    """
    return msgspec.Meta(
        description=text, extra={"flags": flags, "metavar": metavar, "argument": argument, "ahead": ahead}
    )


Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
"""Number of things; a larger value is treated as a mistake."""
PageSize = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
"""Maximum number of rows to list."""
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""Number of a row in Postgres or of a record in Kafka."""
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
"""Time with a time zone."""
Since = Annotated[Timestamp | None, param("Only later ones.")]
Until = Annotated[Timestamp | None, param("Only earlier ones.")]
MOST_BODY_BYTES: Final = 1 << 20
"""Maximum size of a request's body in bytes. The gateway parses a body in one step, which delays queries."""
_MOST_SHOWN: Final = 80
_WITH_BODY: Final = frozenset({"POST", "PUT"})


class RequestContext(NamedTuple):
    """Caller and resources of one request; the same for the command line and for a gateway."""

    pool: Pool
    find_kafka: Callable[[], KafkaSettings]
    """Returns the settings of Kafka; raises `OperatorError` if they are unknown, which fails only requests that need
    Kafka."""
    artifacts: str
    """Location of artifacts: a folder or a bucket's URL; empty for the default in the home folder."""
    home: Path
    principal: Principal
    """Caller; on the command line `ANYONE`, who may do everything."""
    actor: str
    """Caller for the audit log: `user@host`, or the result of `actor_of`."""
    origin: str
    """Origin for the audit log: `command line`, or the listener and the address."""

    def act(self, verb: AuditVerb, subject: str = "", **detail: Any) -> AuditAct:
        """Describe an act of the caller for the audit log."""
        return AuditAct(actor=self.actor, origin=self.origin, verb=verb, subject=subject, detail=detail)

    def artifact_store(self) -> ArtifactStore:
        """Return the store of model files."""
        return open_artifacts(self.artifacts, self.home)

    def exchange_store(self) -> ArtifactStore:
        """Return the store of files that only builds exchange."""
        return open_exchange(self.artifacts, self.home)


def actor_of(principal: Principal) -> str:
    """Return the caller of a gateway for the audit log: `key:<id>`, a token's issuer and subject, or `anyone`."""
    if principal == ANYONE or not principal.name.isalnum():
        return principal.name
    return f"key:{principal.name}"


class Empty(msgspec.Struct, frozen=True):
    """Empty request or result."""


class Route(msgspec.Struct, Generic[Q, R], frozen=True, kw_only=True):
    """Route of the admin API: what a gateway, its authorization and the documents must know of it."""

    name: str
    """Noun and verb, e.g. `scale.pin`."""
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    """Path with field names in braces: `/v1/scale/pins/{kind}/{name}`."""
    role: Role
    """Lowest role that the caller must have. Which objects the caller may change depends on their owner."""
    request: type[Q]
    result: type[R]
    summary: str
    status: int = 200
    """HTTP status of success; 202 if the request only starts the work."""
    deadline_s: float = 30.0
    """Timeout in seconds."""
    grants_access: bool = False
    """True if the result grants somebody access, also later or at another gateway. A gateway without authentication
    refuses such a route."""

    @property
    def has_body(self) -> bool:
        """True if the fields that are not in the path are sent in the body rather than in the query string."""
        return self.method in _WITH_BODY

    @property
    def in_path(self) -> tuple[str, ...]:
        """Fields that are part of the path."""
        return tuple(field for _, field, _, _ in Formatter().parse(self.path) if field)


class Endpoint(Route[Q, R], Generic[Q, R], frozen=True, kw_only=True):
    """Route whose request is a struct; a call executes a request in this process."""

    act: Callable[[RequestContext, Q], Awaitable[R]]

    async def __call__(self, context: RequestContext, request: Q) -> R:
        """Execute a request.

        Raises:
            InfaasError: the request failed; its type gives the reason (see the package).
            StoreUnavailable: Postgres is unavailable.
        """
        return await self.act(context, request)


def endpoint(
    name: str,
    method: Literal["GET", "POST", "PUT", "DELETE"],
    path: str,
    role: Role,
    *,
    status: int = 200,
    deadline_s: float = 30.0,
    grants_access: bool = False,
) -> Callable[[Callable[[RequestContext, Q], Awaitable[R]]], Endpoint[Q, R]]:
    """Return a decorator that makes an endpoint of a coroutine function; see `Route` for the arguments.

    The types of the request and of the result are those of the function's annotations. The summary is its docstring
    without the list of errors.
    """

    def declare(act: Callable[[RequestContext, Q], Awaitable[R]]) -> Endpoint[Q, R]:
        _, request, result = get_type_hints(act).values()
        summary = " ".join((inspect.getdoc(act) or "").partition("Raises:")[0].split())
        return Endpoint(
            name=name, method=method, path=path, role=role, request=request, result=result, summary=summary,
            status=status, deadline_s=deadline_s, grants_access=grants_access, act=act,
        )  # fmt: skip

    return declare


class HttpCall(NamedTuple):
    """Request in the form in which it is sent over HTTP."""

    method: str
    target: str
    """Path and query string as in the request line."""
    body: bytes | None


def to_http(endpoint: Endpoint[Q, R], request: Q) -> HttpCall:
    """Return the HTTP request that stands for `request`."""
    values: dict[str, Any] = msgspec.to_builtins(request)
    path = endpoint.path.format(**{name: quote(str(values.pop(name)), safe="") for name in endpoint.in_path})
    if endpoint.has_body:
        return HttpCall(endpoint.method, path, msgspec.json.encode(values))
    pairs = [(name, value_text(one)) for name, value in values.items() for one in _each(value)]
    return HttpCall(endpoint.method, f"{path}?{urlencode(pairs)}" if pairs else path, None)


def from_http(
    endpoint: Endpoint[Q, R], path: Mapping[str, str], query: Iterable[tuple[str, str]], body: bytes = b""
) -> Q:
    """Read a request from the path's values by name, the pairs of the query string, and the body of a POST or PUT.

    Raises:
        InvalidRequest: the request does not fit the endpoint; the message says why.
    """
    asked = dict[str, Any]()
    several, choices = _lists(endpoint.request), _choices(endpoint.request)
    for name, text in query:
        if name in several:
            asked.setdefault(name, []).append(text)
        elif name in asked:
            raise InvalidRequest(f"parameter {name[:_MOST_SHOWN]!r} is given twice")
        else:
            asked[name] = text
    if endpoint.has_body:
        if asked:
            raise InvalidRequest(f"{endpoint.method} {endpoint.path} has no query parameters: put them into the body")
        asked = _object(body)
    _check_names(endpoint, asked)
    for name, text in (path if endpoint.has_body else {**asked, **path}).items():
        if name in choices and text not in choices[name]:
            wrong = f"{name} must be one of {', '.join(choices[name])}, not {text[:_MOST_SHOWN]!r}"
            raise InvalidRequest(f"{endpoint.name}: {wrong}")
    found = _converted(endpoint, asked | dict(path), strict=endpoint.has_body)
    if not endpoint.has_body:
        _check_given(endpoint, asked, found)
    return found


def from_form(endpoint: Endpoint[Q, R], fields: Iterable[tuple[str, str]]) -> Q:
    """Read a request from the fields of an HTML form, which sends an empty text for a field without a value.

    The words of a text are the values of a field that holds several.

    Raises:
        InvalidRequest: the request does not fit the endpoint; the message says why.
    """
    asked, several = dict[str, Any](), _lists(endpoint.request)
    known = {field.name for field in _fields(endpoint.request)}
    for name, text in fields:
        if name not in known:
            raise InvalidRequest(f"no parameter of {endpoint.name} is called {name[:_MOST_SHOWN]!r}")
        if name in several:
            asked.setdefault(name, []).extend(text.split())
        elif text.strip():
            asked[name] = text
    return _converted(endpoint, {name: value for name, value in asked.items() if value != []}, strict=False)


def checked(endpoint: Endpoint[Q, R], request: Q) -> Q:
    """Check a request that was created in this process against the limits that apply to HTTP requests.

    Raises:
        InvalidRequest: a field is out of its limits.
    """
    return _converted(endpoint, msgspec.to_builtins(request), strict=False)


def _converted(endpoint: Endpoint[Q, R], values: dict[str, Any], *, strict: bool) -> Q:
    _check_texts([value for value in values.values() if isinstance(value, str)])  # first: errors may quote them
    try:
        converted: Any = msgspec.convert(values, endpoint.request, strict=strict)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{endpoint.name}: {error}") from None
    _check_texts(values)  # also texts in nested values
    _check_moments(getattr(converted, name) for name in converted.__struct_fields__)
    return converted


def _object(body: bytes) -> dict[str, Any]:
    if len(body) > MOST_BODY_BYTES:
        raise InvalidRequest(f"the body has {len(body)} bytes; at most {MOST_BODY_BYTES} are allowed")
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not a JSON object: {error}") from None


def _check_names(endpoint: Endpoint[Any, Any], names: Iterable[str]) -> None:
    known = tuple(name for name in endpoint.request.__struct_fields__ if name not in endpoint.in_path)
    for name in names:
        if name not in known:
            nearest = nearest_name(name[:_MOST_SHOWN], known)
            there_are = f"; there are {', '.join(known)}" if known else "; there are none"
            instead = f": did you mean {nearest}?" if nearest else there_are
            raise InvalidRequest(f"no parameter of {endpoint.name} is called {name[:_MOST_SHOWN]!r}{instead}")


def _check_given(endpoint: Endpoint[Any, Any], asked: Mapping[str, Any], found: Any) -> None:
    """Refuse a text such as `null` that means no value: the limit would be ignored without notice."""
    for name, text in asked.items():
        if getattr(found, name) is None:
            raise InvalidRequest(f"{endpoint.name}: {name} has no value in {text!r}; omit it to select all")


def _check_texts(value: Any) -> None:
    """Refuse NUL and lone surrogates, which Postgres cannot store in a text."""
    match value:
        case str():
            if "\0" in value or not _is_unicode(value):
                raise InvalidRequest(f"{value[:_MOST_SHOWN]!r} contains invalid characters")
        case dict():
            for one in (*value, *value.values()):
                _check_texts(one)
        case list():
            for one in value:
                _check_texts(one)
        case _:
            pass


def _check_moments(values: Iterable[Any]) -> None:
    """Refuse a time whose conversion to UTC leaves the years 1 to 9999; times are compared and stored in UTC."""
    for value in values:
        if isinstance(value, datetime):
            try:
                value.astimezone(UTC)
            except OverflowError:
                raise InvalidRequest(f"{value.isoformat()} is out of range") from None


def _is_unicode(text: str) -> bool:
    try:
        return bool(text.encode()) or not text
    except UnicodeEncodeError:
        return False


@cache
def _lists(request: type) -> frozenset[str]:
    """Return the fields that hold several values; each value is a separate pair in a query string."""
    return frozenset(
        field.name for field in _fields(request) for kind in kinds_of(field.type) if isinstance(kind, CollectionType)
    )


@cache
def _choices(request: type) -> Mapping[str, tuple[str, ...]]:
    """Return the allowed words of each field that has an enum type."""
    return {
        field.name: tuple(str(one.value) for one in kind.cls)
        for field in _fields(request)
        for kind in kinds_of(field.type)
        if isinstance(kind, EnumType)
    }


def _fields(request: type) -> tuple[Any, ...]:
    """Return the fields of a request with their types."""
    found: Any = msgspec.inspect.type_info(request)
    return found.fields


def kinds_of(kind: Any) -> Iterator[Any]:
    """Yield the types that a field may have, without their metadata and without None."""
    if isinstance(kind, Metadata):
        yield from kinds_of(kind.type)
    elif isinstance(kind, UnionType):
        for one in kind.types:
            yield from kinds_of(one)
    elif not isinstance(kind, NoneType):
        yield kind


def _each(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
