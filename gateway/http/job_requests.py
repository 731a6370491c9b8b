"""Reads what is asked of the job routes: one job, or many in one body, as JSON lines or as a list.

A job is what `/infer` takes. Unless its needs say `mode`, it is offline: it may wait, and is computed when nothing else
is to do. A latency counts from when it was asked for.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import sha256
from secrets import token_urlsafe
from typing import Final, NamedTuple
from uuid import uuid4

import msgspec
from multidict import CIMultiDict

from gateway.model_directory import ServedModel
from gateway.translation import Envelope, make_envelope
from schemas import headers as h
from schemas.errors import InvalidRequest, QueryError
from schemas.jobs import KEY, MAX_KEY
from schemas.needs import Mode
from schemas.oip import BINARY, JSON
from schemas.principal import ANYONE, Principal
from schemas.rows.jobs import NewJob
from schemas.topics import JOB_RESULTS

NDJSON: Final = "application/x-ndjson"
_AT_ONCE: Final = 50
"""Jobs that are read in one go, a millisecond or two: queries wait meanwhile."""
_CORRELATION_BYTES: Final = 12
"""Random bytes by which a job's result is known to be that of its query."""
_MOST_S: Final = 10 * 365 * 86_400.0
_KNOWN_LATER: Final = frozenset({h.ID, h.REPLY_TO, h.SENT_NS, h.LATENCY_MS, h.DEADLINE_MS})
_list: Final = msgspec.json.Decoder(list[msgspec.Raw])


class JobOptions(NamedTuple):
    """What a request says of its jobs beside the queries."""

    principal: Principal
    """Who asks."""
    key: str | None
    tenant: str
    webhook: str | None
    reply_to: str | None


class _Place(NamedTuple):
    """A job's place in a body that holds many: the `number`-th, from 0, `of` so many."""

    batch: str
    number: int
    of: int


def queries_in(body: bytes, http: Mapping[str, str]) -> list[bytes] | None:
    """The queries of a body that holds many; None if it is one: no query begins as a list does.

    Raises:
        InvalidRequest: it holds none, or is no list.
    """
    kind = http.get(h.CONTENT_TYPE, "").partition(";")[0].strip().lower()
    if kind == NDJSON:
        found = [line for line in body.splitlines() if line.strip()]
    elif kind in ("", JSON, BINARY) and h.JSON_LENGTH not in http and body.lstrip()[:1] == b"[":
        try:
            found = [bytes(raw) for raw in _list.decode(body)]
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            raise InvalidRequest(f"the list of jobs is not valid: {error}") from None
    else:
        return None
    if not found:
        raise InvalidRequest("there is no job in the body")
    return found


def check_key(key: str | None) -> str | None:
    """Check an idempotency key.

    Raises:
        InvalidRequest: it is empty or too long.
    """
    if key is not None and not 0 < len(key) <= MAX_KEY:
        raise InvalidRequest(f"header {KEY} must hold 1 to {MAX_KEY} characters")
    return key


async def read_jobs(
    model: ServedModel,
    http: Mapping[str, str],
    bodies: Sequence[bytes],
    ids: Sequence[str],
    options: JobOptions,
    now_ns: int,
    *,
    many: bool,
) -> list[NewJob]:
    """Make the jobs of a request, of one or of `many`.

    Raises:
        InvalidRequest: one is not as it must be; the message says which, and what is wrong.
    """
    if not many:
        return [_read_job(model, http, bodies[0], ids[0], options, now_ns)]
    shared = CIMultiDict(http)
    shared[h.CONTENT_TYPE] = JSON
    shared.pop(h.JSON_LENGTH, None)
    return [job async for job in _read_many(model, shared, bodies, ids, options, now_ns)]


async def _read_many(
    model: ServedModel,
    http: Mapping[str, str],
    bodies: Sequence[bytes],
    ids: Sequence[str],
    options: JobOptions,
    now_ns: int,
) -> AsyncIterator[NewJob]:
    key = _key_of(model, options, "batch")
    batch = uuid4().hex if key is None else key.hex()[:32]
    for number, (body, job_id) in enumerate(zip(bodies, ids, strict=True)):
        try:
            yield _read_job(model, http, body, job_id, options, now_ns, _Place(batch, number, len(bodies)))
        except QueryError as error:
            raise InvalidRequest(f"job {number + 1} of {len(bodies)}: {error}; none was kept") from None
        if number % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)


def _read_job(
    model: ServedModel,
    http: Mapping[str, str],
    body: bytes,
    job_id: str,
    options: JobOptions,
    now_ns: int,
    place: _Place | None = None,
) -> NewJob:
    envelope = make_envelope(model, options.principal, http, body, JOB_RESULTS, job_id, now_ns)
    said = h.as_text(envelope.headers)
    headers = {name: text for name, text in said.items() if name not in _KNOWN_LATER}
    headers.setdefault(h.MODE, Mode.OFFLINE)
    fingerprint = _fingerprint(headers, said.get(h.LATENCY_MS, ""), options, body)
    if envelope.query.tenant is not None and options.principal is not ANYONE:
        headers[h.SIGNATURE] = ""  # whoever sends it may sign it: its tenant has authenticated
    headers[h.CORRELATION] = token_urlsafe(_CORRELATION_BYTES)
    if place is not None:
        fingerprint = sha256(fingerprint + b"%d" % place.of).digest()  # or fewer would be the same
    return NewJob(
        id=job_id,
        model=model.name,
        task=model.task,
        offline=headers[h.MODE] == Mode.OFFLINE,
        headers=headers,
        request=body,
        deadline_s=_deadline_s(envelope),
        batch=None if place is None else place.batch,
        idempotency_key=_key_of(model, options, "" if place is None else str(place.number)),
        fingerprint=fingerprint,
        webhook=options.webhook,
        reply_to=options.reply_to,
    )


def _deadline_s(envelope: Envelope) -> float | None:
    query = envelope.query
    if query.deadline_ms is None:
        return None
    deadline_s = max(query.deadline_ms - query.sent_ms, 0.0) / 1e3
    if deadline_s > _MOST_S:  # what Postgres has no time for
        raise InvalidRequest("a job's deadline is at most ten years from now; leave it out for none")
    return deadline_s


def _key_of(model: ServedModel, options: JobOptions, place: str) -> bytes | None:
    """What makes a key unique: whose it is, of which model, and the place in the body."""
    if options.key is None:
        return None
    return sha256("\0".join((options.tenant, model.name, options.key, place)).encode()).digest()


def _fingerprint(headers: Mapping[str, str], latency_ms: str, options: JobOptions, body: bytes) -> bytes:
    asked = (sorted(headers.items()), latency_ms, options.webhook, options.reply_to)
    return sha256(msgspec.json.encode(asked) + body).digest()
