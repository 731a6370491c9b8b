"""Reads requests for jobs: one job, or many in one body, as JSON lines or as a list.

A job has the form of an `/infer` request. Unless it sets `mode`, it is offline: it may wait until there is idle
capacity. Its latency counts from the request.
"""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from secrets import token_urlsafe
from typing import Final, NamedTuple
from uuid import uuid4

import msgspec
from multidict import CIMultiDict

from gateway.model_directory import ServedModel
from gateway.translation import Envelope, make_envelope
from schemas import headers as h
from schemas.access import ANYONE, Principal
from schemas.errors import InvalidRequest, QueryError
from schemas.jobs import KEY, MAX_KEY, NewJob, new_job_id
from schemas.query import Mode
from schemas.signature import BINARY, JSON
from schemas.topics import JOB_RESULTS

NDJSON: Final = "application/x-ndjson"
_AT_ONCE: Final = 50
"""Jobs that are read without a pause of the event loop, which takes a millisecond or two."""
_CORRELATION_BYTES: Final = 12
"""Random bytes in a job's correlation, which proves that a result belongs to the job's query."""
_MOST_S: Final = 10 * 365 * 86_400.0
_KNOWN_LATER: Final = frozenset({h.ID, h.REPLY_TO, h.SENT_NS, h.LATENCY_MS, h.DEADLINE_MS})
_list: Final = msgspec.json.Decoder(list[msgspec.Raw])


class JobOptions(NamedTuple):
    """Options of a request that apply to all its jobs."""

    principal: Principal
    """Caller."""
    key: str | None
    tenant: str
    webhook: str | None
    reply_to: str | None


class JobPlace(NamedTuple):
    """Position of a job in a body with several: `number`, from 0, `of` the total."""

    batch: str
    number: int
    of: int


def queries_in(body: bytes, http: Mapping[str, str]) -> list[bytes] | None:
    """Return the queries of a body with several jobs; None for a single query, which never begins like a list.

    Raises:
        InvalidRequest: the list is empty or invalid.
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
        InvalidRequest: the key is empty or too long.
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
    """Return the jobs of a request for one job, or for `many`.

    Raises:
        InvalidRequest: a job is invalid; the message says which one and why.
    """
    if not many:
        return [read_job(model, http, bodies[0], ids[0], options, now_ns)]
    shared = CIMultiDict(http)
    shared[h.CONTENT_TYPE] = JSON
    shared.pop(h.JSON_LENGTH, None)
    key, jobs = _key_of(model, options, "batch"), list[NewJob]()
    batch = uuid4().hex if key is None else key.hex()[:32]
    for number, (body, job_id) in enumerate(zip(bodies, ids, strict=True)):
        place = JobPlace(batch, number, len(bodies))
        try:
            jobs.append(read_job(model, shared, body, job_id, options, now_ns, place))
        except QueryError as error:
            raise InvalidRequest(f"job {number + 1} of {len(bodies)}: {error}; no job was stored") from None
        if number % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
    return jobs


def read_job(
    model: ServedModel,
    http: Mapping[str, str],
    body: bytes,
    job_id: str,
    options: JobOptions,
    now_ns: int,
    place: JobPlace | None = None,
) -> NewJob:
    """Return the job of one request; `place` is its position in a body with several.

    Raises:
        InvalidRequest: it is invalid.
    """
    envelope = make_envelope(model, options.principal, http, body, JOB_RESULTS, job_id, now_ns)
    fields = h.as_text(envelope.headers)
    headers = {name: text for name, text in fields.items() if name not in _KNOWN_LATER}
    headers.setdefault(h.MODE, Mode.OFFLINE)
    fingerprint = _fingerprint(headers, fields.get(h.LATENCY_MS, ""), options, body)
    if envelope.query.tenant is not None and options.principal is not ANYONE:
        headers[h.SIGNATURE] = ""  # the sender may sign it: the tenant was authenticated
    headers[h.CORRELATION] = token_urlsafe(_CORRELATION_BYTES)
    if place is not None:
        fingerprint = sha256(fingerprint + b"%d" % place.of).digest()  # a shorter list must differ
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


def new_job_ids(count: int) -> list[str]:
    """Return ids for `count` jobs, in ascending order."""
    now_ms, start = time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10)) & ((1 << 73) - 1)
    return [new_job_id(now_ms, start + number) for number in range(count)]


def new_id(prefix: str) -> str:
    """Return an id that begins with a prefix and then its time."""
    return prefix + new_job_ids(1)[0].replace("-", "")


def _deadline_s(envelope: Envelope) -> float | None:
    query = envelope.query
    if query.deadline_ms is None:
        return None
    deadline_s = max(query.deadline_ms - query.sent_ms, 0.0) / 1e3
    if deadline_s > _MOST_S:  # beyond the range of Postgres
        raise InvalidRequest("a job's deadline is at most ten years from now; leave it out for none")
    return deadline_s


def _key_of(model: ServedModel, options: JobOptions, place: str) -> bytes | None:
    """Return the unique form of an idempotency key: with its tenant, its model and the position in the body."""
    if options.key is None:
        return None
    return sha256("\0".join((options.tenant, model.name, options.key, place)).encode()).digest()


def _fingerprint(headers: Mapping[str, str], latency_ms: str, options: JobOptions, body: bytes) -> bytes:
    content = (sorted(headers.items()), latency_ms, options.webhook, options.reply_to)
    return sha256(msgspec.json.encode(content) + body).digest()
