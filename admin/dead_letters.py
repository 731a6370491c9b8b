"""Dead letters: list, show, replay and drop, a limited number at a time.

Functions that only read need no Postgres, so that operators can use them during an outage of Postgres.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from admin.api import Number, RequestContext, Since, Until, endpoint, param
from broker.dead_letters.dead_letters import MOST_LETTERS, DeadLetters
from broker.dead_letters.stored_letter import LetterCursor, LetterFilter, LetterId, StoredLetter
from broker.kafka.settings import KafkaSettings
from process.signing import SigningSettings
from schemas.access import Role
from schemas.errors import InvalidRequest, NotFound
from schemas.rows.audit import AuditAct, AuditVerb
from store.audit import audited

MOST_SHOWN_BYTES: Final = 1000
"""Maximum number of bytes of a record's value in an answer."""

_Task = Annotated[str | None, param("Only of this task.")]
_Reason = Annotated[str | None, param("Only with this text in the reason, in upper or lower case.")]

_DEADLINE_S: Final = 300.0


class LettersRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Filter of the listed dead letters; the latest matches are returned."""

    task: _Task = None
    reason: _Reason = None
    since: Since = None
    until: Until = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000), param("Maximum number; the latest ones.")] = 100
    done: Annotated[bool, param("Include replayed and dropped ones.")] = False


class DeadLetterSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Entry in a list of dead letters."""

    letter: str
    """Name of the dead letter: partition and offset, e.g. `0/17`."""
    at: datetime
    state: str
    task: str
    query: str
    topic: str
    partition: int
    offset: int
    attempts: int
    bytes: int
    whole: bool
    """True if the complete record is kept."""
    reason: str


class DeadLetterDetail(DeadLetterSummary, frozen=True, kw_only=True):
    """Dead letter with its headers and the beginning of its value."""

    key: str
    headers: list[tuple[str, str]]
    value: str


class LetterRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for one dead letter."""

    partition: Number
    offset: Number


class LetterChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Selection of dead letters to handle: the oldest that match every field that is given."""

    letters: Annotated[
        list[str],
        msgspec.Meta(max_length=MOST_LETTERS),
        param("Ids of dead letters, e.g. 0/17; default: all.", metavar="LETTER", argument=True),
    ] = []
    task: _Task = None
    reason: _Reason = None
    since: Since = None
    until: Until = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_LETTERS)] = 1000
    after: str = ""
    """Position from the previous answer at which to continue."""


class DropRequest(LetterChoice, frozen=True, kw_only=True):
    """Selection of dead letters to drop."""

    all: Annotated[bool, param("All of them; required if nothing else selects any.")] = False


class HandledDeadLetters(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a request that handles dead letters."""

    handled: int
    """Number of dead letters that were examined."""
    after: str = ""
    """Position at which to continue; empty: there are no more."""
    until: datetime | None = None
    """Value to send as `until` together with `after`. It excludes new dead letters that the replayed queries may
    cause."""


class ReplayedLetters(HandledDeadLetters, frozen=True, kw_only=True):
    """Result of replaying dead letters."""

    replayed: int
    answered: int
    """Number of dead letters that were not sent because their query already has an answer."""
    passed_over: dict[str, str]
    """Reason why each of the other dead letters was not sent, by name."""


class DroppedLetters(HandledDeadLetters, frozen=True, kw_only=True):
    """Result of dropping dead letters."""

    dropped: int


_NAMED: Final = 20
"""Maximum number of letters whose ids the audit log holds."""

_BEGUN_WITHIN_S: Final = 180.0
"""Seconds after which a replay starts no more letters, so that the response can report its progress."""


@endpoint("dead-letters.list", "GET", "/v1/dead-letters", Role.ADMIN, deadline_s=120)
async def list_letters(context: RequestContext, request: LettersRequest) -> list[DeadLetterSummary]:
    """List open dead letters, the latest last."""
    return await found_letters(context.find_kafka(), request)


async def found_letters(kafka: KafkaSettings, request: LettersRequest) -> list[DeadLetterSummary]:
    """List letters with access to Kafka alone."""
    wanted = _filter(request, done=request.done)
    return [DeadLetterSummary(**_outline(stored)) for stored in await DeadLetters(kafka).find(wanted, request.limit)]


@endpoint("dead-letters.show", "GET", "/v1/dead-letters/{partition}/{offset}", Role.ADMIN, deadline_s=120)
async def show(context: RequestContext, request: LetterRequest) -> DeadLetterDetail:
    """Show a dead letter: its reason, its headers, and the beginning of its value.

    Raises:
        NotFound: there is no such letter.
    """
    return await shown_letter(context.find_kafka(), request)


async def shown_letter(kafka: KafkaSettings, request: LetterRequest) -> DeadLetterDetail:
    """Show a letter with access to Kafka alone.

    Raises:
        NotFound: there is no such letter.
    """
    place = LetterId(request.partition, request.offset)
    found = await DeadLetters(kafka).show(place)
    if found is None:
        raise NotFound(f"there is no dead letter {place}; `infaas dead-letters list --done` lists them")
    letter = found.letter
    return DeadLetterDetail(
        **_outline(found),
        key=_text(letter.key or b""),
        headers=[(name.encode(errors="replace").decode(), _text(value)) for name, value in letter.headers],
        value=_text((letter.value or b"")[:MOST_SHOWN_BYTES]),
    )


@endpoint("dead-letters.replay", "POST", "/v1/dead-letters/replay", Role.ADMIN, deadline_s=_DEADLINE_S)
async def replay(context: RequestContext, request: LetterChoice) -> ReplayedLetters:
    """Replay dead letters under the same ids; each at most once, and none that was answered meanwhile."""
    box = DeadLetters(context.find_kafka(), SigningSettings().read())
    wanted = _chosen(request)
    async with audited(context.pool, _act(context, AuditVerb.REPLAY_LETTERS, request)):
        letters = await box.find(wanted, request.limit, oldest=True)
        report = await box.replay(letters, _BEGUN_WITHIN_S)
    return ReplayedLetters(
        handled=report.replayed + report.answered + len(report.passed_over),
        replayed=report.replayed,
        answered=report.answered,
        passed_over=report.passed_over,
        after=report.after or _behind(letters, request.limit),
        until=request.until or (_moment(report.begun_ms) if report.begun_ms else None),
    )


@endpoint("dead-letters.drop", "POST", "/v1/dead-letters/drop", Role.ADMIN, deadline_s=_DEADLINE_S)
async def drop(context: RequestContext, request: DropRequest) -> DroppedLetters:
    """Drop dead letters permanently.

    Raises:
        InvalidRequest: the request selects no letters.
    """
    box, wanted = DeadLetters(context.find_kafka()), _chosen(request)
    if not (request.all or request.letters or _said(request)):
        raise InvalidRequest("name the dead letters to drop, or give --all")
    async with audited(context.pool, _act(context, AuditVerb.DROP_LETTERS, request)):
        letters = await box.find(wanted, request.limit, oldest=True)
        dropped = await box.drop(letters)
    return DroppedLetters(handled=dropped, dropped=dropped, after=_behind(letters, request.limit))


def letter_id(text: str) -> LetterId:
    """Read the id of a letter, `0/17` or `17`.

    Raises:
        InvalidRequest: the text is not such an id.
    """
    try:
        return LetterId.parse(text)
    except ValueError:
        raise InvalidRequest(f"{text[:80]!r} is not a dead letter id; use an id from `list`, e.g. 0/17") from None


def _chosen(request: LetterChoice) -> LetterFilter:
    try:
        after = LetterCursor.parse(request.after) if request.after else None
    except ValueError:
        raise InvalidRequest(f"{request.after[:80]!r} is not a cursor: send the `after` of a response") from None
    return _filter(request, ids=frozenset(map(letter_id, request.letters)), after=after)


def _filter(request: LettersRequest | LetterChoice, **more: Any) -> LetterFilter:
    return LetterFilter(
        task=request.task,
        reason=request.reason,
        since_ms=None if request.since is None else max(request.since.timestamp() * 1e3, 0.0),
        until_ms=None if request.until is None else request.until.timestamp() * 1e3,
        **more,
    )


def _behind(letters: list[StoredLetter], limit: int) -> str:
    """Return the cursor of the next page; empty if this page is the last."""
    return str(letters[-1].cursor) if len(letters) == limit else ""


def _act(context: RequestContext, verb: AuditVerb, request: LetterChoice) -> AuditAct:
    more = len(request.letters) - _NAMED
    named = ", ".join(request.letters[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    went_on = {"after": request.after} if request.after else {}
    return context.act(verb, named, **_said(request), **went_on)


def _said(request: LetterChoice) -> dict[str, Any]:
    asked = {"task": request.task, "reason": request.reason, "since": request.since, "until": request.until}
    return {name: value for name, value in asked.items() if value is not None}


def _outline(stored: StoredLetter) -> dict[str, Any]:
    letter = stored.letter
    return {
        "letter": str(stored.id),
        "at": _moment(stored.at_ms),
        "state": stored.state.value,
        "task": stored.task,
        "query": stored.query,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "attempts": letter.attempts,
        "bytes": stored.value_bytes,
        "whole": not letter.shortened,
        "reason": letter.reason,
    }


def _moment(at_ms: float) -> datetime:
    return datetime.fromtimestamp(at_ms / 1e3, UTC)


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


DEAD_LETTERS: Final = (list_letters, show, replay, drop)
